package store

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os/exec"
	"regexp"
	"strings"
	"time"
)

var version = regexp.MustCompile(`v=(\S+)`)

// FindRedis looks for redis-server on the PATH. kind is its name and version.
func FindRedis(ctx context.Context) (path, kind string, found bool) {
	path, err := exec.LookPath("redis-server")
	if err != nil {
		return "", "", false
	}
	out, err := exec.CommandContext(ctx, path, "--version").Output()
	if err != nil {
		return "", "", false
	}
	kind = "redis-server"
	if m := version.FindSubmatch(out); m != nil {
		kind += " " + string(m[1])
	}
	return path, kind, true
}

// RedisArgs are the arguments of a redis-server that keeps what it was told in
// dir: a write that was answered outlives a kill of the process. conf is the path
// of a configuration file; what it says of the same things does not count.
func RedisArgs(conf string, port int, dir string) []string {
	return []string{
		conf, "--bind", "127.0.0.1", "--port", fmt.Sprint(port),
		"--dir", dir, "--appendonly", "yes", "--appendfsync", "everysec", "--save", "",
		"--daemonize", "no", "--loglevel", "warning",
	}
}

// WaitRedis waits until the server at address has loaded its data and answers.
func WaitRedis(ctx context.Context, address string) error {
	for {
		err := ping(ctx, address)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("redis-server at %s does not answer: %w", address, err)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func ping(ctx context.Context, address string) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return err
	}
	if _, err := io.WriteString(conn, "PING\r\n"); err != nil {
		return err
	}
	answer, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return err
	}
	if !strings.HasPrefix(answer, "+PONG") {
		return fmt.Errorf("it says %q", strings.TrimSpace(answer))
	}
	return nil
}
