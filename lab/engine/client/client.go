// Package client reaches the engine that runs in a state directory.
package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	enginev1 "spillway.dev/proto/gen/spillway/engine/v1"
)

// File is the name of the file in a state directory that tells where its engine
// listens.
const File = "engine.json"

// Address is what an engine writes down about itself.
type Address struct {
	PID       int       `json:"pid"`
	Socket    string    `json:"socket"`
	StartedAt time.Time `json:"started_at"`
}

// ErrNotRunning is in the chain of Dial's error when no engine answers.
var ErrNotRunning = errors.New("no mesh is running")

// Dial connects to EngineService as Connect does. The returned function closes
// the connection.
func Dial(stateDir string) (enginev1.EngineServiceClient, func() error, error) {
	conn, err := Connect(stateDir)
	if err != nil {
		return nil, nil, err
	}
	return enginev1.NewEngineServiceClient(conn), conn.Close, nil
}

// Connect connects to the engine of stateDir, which serves EngineService and
// what else steers its mesh. When none answers the error says so and how to
// start one; errors.Is finds ErrNotRunning in it. The caller closes the
// connection.
func Connect(stateDir string) (*grpc.ClientConn, error) {
	address, err := Read(stateDir)
	if err != nil {
		return nil, err
	}
	// An engine that was killed leaves its file behind. Knocking costs nothing.
	knock, err := net.DialTimeout("unix", address.Socket, time.Second)
	if err != nil {
		return nil, notRunning(stateDir)
	}
	knock.Close()
	conn, err := grpc.NewClient("unix:"+address.Socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, fmt.Errorf("reach the engine at %s: %w", address.Socket, err)
	}
	return conn, nil
}

// Read tells what the engine of stateDir, running or killed, wrote down.
func Read(stateDir string) (Address, error) {
	name := filepath.Join(stateDir, File)
	text, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return Address{}, notRunning(stateDir)
	}
	if err != nil {
		return Address{}, fmt.Errorf("look for a running mesh: %w", err)
	}
	var address Address
	if err := json.Unmarshal(text, &address); err != nil || address.Socket == "" {
		return Address{}, fmt.Errorf("%s is not what an engine writes; remove it and start the mesh with `make up`", name)
	}
	return address, nil
}

func notRunning(stateDir string) error {
	if path, err := filepath.Abs(stateDir); err == nil {
		stateDir = path
	}
	return fmt.Errorf("%w in %s: start one with `make up`, or name the state directory of one that runs with --dir", ErrNotRunning, stateDir)
}
