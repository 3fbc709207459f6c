package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	sessionv1 "spillway.dev/proto/gen/spillway/session/v1"
)

// settle is how long an idle replica is left alone before its memory is read: long enough for a garbage collection's
// leftovers to go back and for the first exports to be made.
const settle = 2 * time.Second

// Starts is what a replica's start takes.
type Starts struct {
	// Millis is the time from exec to the first call that the service itself answered, in milliseconds.
	Millis Spread
	// IdleMiB is the resident memory of a replica that answered one call and was then left alone, in MiB.
	IdleMiB Spread
	// PrivateMiB is the part of it that no other replica on the machine shares: heap and stacks, but not the pages of the
	// executable, which are in memory once however many replicas run.
	PrivateMiB Spread
}

// MeasureStarts starts the session service's binary, one replica after the other, against a Redis of its own. The last
// idle replicas are left alone for a while and their memory is read. redis-server must be on the PATH, and the memory is
// read from /proc, so it takes Linux.
func MeasureStarts(ctx context.Context, binary string, starts, idle int, environ []string) (_ Starts, err error) {
	if _, err := os.Stat(binary); err != nil {
		return Starts{}, fmt.Errorf("%w (make build makes it)", err)
	}
	redis, stop, err := startRedis(ctx)
	if err != nil {
		return Starts{}, err
	}
	defer func() { err = errors.Join(err, stop()) }()

	var millis, mib, private []float64
	for i := range starts {
		took, mem, err := startOnce(ctx, binary, append(environ, "SPILLWAY_REDIS_ADDR="+redis), i >= starts-idle)
		if err != nil {
			return Starts{}, fmt.Errorf("start %d of %s: %w", i+1, binary, err)
		}
		millis = append(millis, float64(took.Microseconds())/1e3)
		if mem.rss > 0 {
			mib = append(mib, float64(mem.rss)/(1<<20))
			private = append(private, float64(mem.anonymous)/(1<<20))
		}
	}
	return Starts{Millis: Describe(millis), IdleMiB: Describe(mib), PrivateMiB: Describe(private)}, nil
}

// startOnce starts one replica, waits for its first answer, reads its memory if asked to, and ends it.
func startOnce(ctx context.Context, binary string, environ []string, idle bool) (took time.Duration, mem memory, err error) {
	addr, err := freeAddr()
	if err != nil {
		return 0, memory{}, err
	}
	cmd := exec.CommandContext(ctx, binary)
	// Without modelled capacity: the service time of the first call is no part of the start.
	cmd.Env = append(environ, "SPILLWAY_GRPC_ADDR="+addr, "SPILLWAY_ADMIN_ADDR=127.0.0.1:0", "SPILLWAY_CAPACITY_SERVICE_TIME=0s")
	var log bytes.Buffer
	cmd.Stderr = &log
	begin := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, memory{}, err
	}
	defer func() {
		kill := time.AfterFunc(15*time.Second, func() { _ = cmd.Process.Kill() }) // Wait reports it
		defer kill.Stop()
		if serr := errors.Join(cmd.Process.Signal(syscall.SIGTERM), cmd.Wait()); serr != nil {
			err = errors.Join(err, fmt.Errorf("its end: %w\n%s", serr, log.String()))
		}
	}()
	if err := firstAnswer(ctx, addr); err != nil {
		return 0, memory{}, err
	}
	took = time.Since(begin)
	if !idle {
		return took, memory{}, nil
	}
	select {
	case <-time.After(settle):
	case <-ctx.Done():
		return 0, memory{}, ctx.Err()
	}
	mem, err = resident(cmd.Process.Pid)
	return took, mem, err
}

// firstAnswer returns when the service has answered a call itself. The token is none of its own, so the answer is
// UNAUTHENTICATED, for which it has asked Redis.
func firstAnswer(ctx context.Context, addr string) error {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	// The default back-off of a second would be measured instead of the start (design.md, facts).
	eager := backoff.Config{BaseDelay: time.Millisecond, Multiplier: 1, MaxDelay: time.Millisecond}
	conn, err := grpc.NewClient("passthrough:///"+addr,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: eager, MinConnectTimeout: time.Second}))
	if err != nil {
		return err
	}
	defer conn.Close()
	// Until something listens, a plain connect is cheaper than a gRPC client that tries each millisecond: on few cores it
	// would compete with the replica.
	for {
		probe, err := net.DialTimeout("tcp", addr, time.Second)
		if err == nil {
			if err := probe.Close(); err != nil {
				return err
			}
			break
		}
		if ctx.Err() != nil {
			return err
		}
		time.Sleep(500 * time.Microsecond)
	}
	token := "dGhpcyBpcyBhIHRva2VuIGZvciBhIGJlbmNobWFyay4"
	for {
		_, err := sessionv1.NewSessionServiceClient(conn).Touch(ctx, &sessionv1.TouchRequest{Token: token}, grpc.WaitForReady(true))
		if c := status.Code(err); c == codes.OK || c == codes.Unauthenticated {
			return nil
		} else if c != codes.Unavailable || ctx.Err() != nil {
			return err
		}
		time.Sleep(200 * time.Microsecond)
	}
}

// memory is what a process has resident, in bytes: all of it, and the part that is backed by no file.
type memory struct{ rss, anonymous int64 }

// resident reads how much memory a process has resident.
func resident(pid int) (memory, error) {
	path := filepath.Join("/proc", strconv.Itoa(pid), "status")
	text, err := os.ReadFile(path)
	if err != nil {
		return memory{}, err
	}
	return parseResident(path, text)
}

func parseResident(path string, text []byte) (m memory, err error) {
	for name, into := range map[string]*int64{"VmRSS:": &m.rss, "RssAnon:": &m.anonymous} {
		for line := range bytes.Lines(text) {
			fields := bytes.Fields(line)
			if len(fields) != 3 || string(fields[0]) != name || string(fields[2]) != "kB" {
				continue
			}
			kib, err := strconv.ParseInt(string(fields[1]), 10, 64)
			if err != nil {
				return memory{}, fmt.Errorf("%s: %s: %w", path, name, err)
			}
			*into = kib << 10
		}
		if *into == 0 {
			return memory{}, fmt.Errorf("%s names no %s", path, name)
		}
	}
	return m, nil
}

// startRedis starts a redis-server that keeps nothing, and returns its address and what ends it.
func startRedis(ctx context.Context) (addr string, stop func() error, err error) {
	binary, err := exec.LookPath("redis-server")
	if err != nil {
		return "", nil, fmt.Errorf("the session service needs Redis: %w", err)
	}
	if addr, err = freeAddr(); err != nil {
		return "", nil, err
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "", nil, err
	}
	cmd := exec.CommandContext(ctx, binary, "--bind", host, "--port", port, "--save", "", "--appendonly", "no")
	if err := cmd.Start(); err != nil {
		return "", nil, err
	}
	stop = func() error {
		return errors.Join(cmd.Process.Signal(syscall.SIGTERM), cmd.Wait())
	}
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		conn, err := net.DialTimeout("tcp", addr, time.Second)
		if err == nil {
			return addr, stop, conn.Close()
		}
		if time.Now().After(deadline) {
			return "", nil, errors.Join(fmt.Errorf("redis-server does not answer: %w", err), stop())
		}
	}
}
