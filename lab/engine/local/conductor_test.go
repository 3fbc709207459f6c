package local

import (
	"errors"
	"net"
	"path/filepath"
	"testing"

	"spillway.dev/lab/engine/local/logs"
	"spillway.dev/lab/engine/local/process"
)

func TestConductorThatCannotStartLeavesNoSocket(t *testing.T) {
	dir := t.TempDir()
	ledger, _, err := process.OpenLedger(filepath.Join(dir, "processes.json"))
	if err != nil {
		t.Fatal(err)
	}
	spawner := process.NewSpawner(ledger, false)
	defer spawner.Close()
	hub, err := logs.NewHub(filepath.Join(dir, "logs"))
	if err != nil {
		t.Fatal(err)
	}
	lis, err := net.Listen("tcp4", host+":0")
	if err != nil {
		t.Fatal(err)
	}
	none := []string{filepath.Join(dir, "nothing")}
	if _, err := startConductor(spawner, none, nil, lis.(*net.TCPListener), nil, hub.Writer(conductorName, conductorName), func(string) {}); err == nil {
		t.Fatal("a program that is not there was started")
	}
	if _, err := lis.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the socket still listens: %v", err)
	}
}
