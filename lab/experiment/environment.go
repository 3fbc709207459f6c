package experiment

import (
	"context"
	"fmt"
	"maps"
	"runtime"
	"strings"

	"github.com/shirou/gopsutil/v4/cpu"
	"github.com/shirou/gopsutil/v4/host"
	"github.com/shirou/gopsutil/v4/mem"

	"spillway.dev/lab/build"
	"spillway.dev/lab/engine/local/store"
)

// commit names the version of the project that ran.
func commit(b build.Info) string {
	if b.Modified {
		return b.Commit + "-dirty"
	}
	return b.Commit
}

// environment is the programs, and what the engine tells of where they run.
func environment(ctx context.Context, o Options, b build.Info) map[string]string {
	env := map[string]string{"go": b.Go, "system": b.Platform, "repeats": fmt.Sprint(o.Repeat)}
	maps.Copy(env, o.Engine.Environment(ctx))
	return env
}

// Environment implements Engine. What the system does not tell is left out.
func (Local) Environment(ctx context.Context) map[string]string {
	env := map[string]string{"cores": fmt.Sprint(runtime.NumCPU()), "engine": "local: processes of one machine"}
	env["redis"] = "miniredis: no redis-server on the PATH"
	if _, kind, found := store.FindRedis(ctx); found {
		env["redis"] = kind
	}
	if info, err := cpu.Info(); err == nil && len(info) > 0 {
		env["processor"] = strings.TrimSpace(info[0].ModelName)
	}
	if info, err := mem.VirtualMemory(); err == nil {
		env["memory"] = fmt.Sprintf("%.1f GiB", float64(info.Total)/(1<<30))
	}
	if kernel, err := host.KernelVersion(); err == nil {
		env["kernel"] = kernel
	}
	return env
}
