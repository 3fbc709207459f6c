package test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"
)

// The same flags stand where ko, goreleaser and our script look for theirs.
func TestImagesAreBuiltTheSameWay(t *testing.T) {
	script, err := os.ReadFile(filepath.Join(repository, "scripts", "image-binary"))
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(repository, ".ko.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var ko struct {
		DefaultBaseImage                                           string
		DefaultPlatforms, DefaultEnv, DefaultFlags, DefaultLdflags []string
	}
	if err := yaml.UnmarshalStrict(text, &ko); err != nil {
		t.Fatal(err)
	}
	for _, flag := range append(slices.Clone(ko.DefaultFlags), "-ldflags='"+strings.Join(ko.DefaultLdflags, " ")+"'") {
		if !strings.Contains(string(script), " "+flag+" ") {
			t.Errorf("ko builds with %s, scripts/image-binary does not", flag)
		}
	}
	if want := []string{"linux/amd64", "linux/arm64"}; !slices.Equal(ko.DefaultPlatforms, want) {
		t.Errorf("ko builds for %v, want %v", ko.DefaultPlatforms, want)
	}
	if !slices.Equal(ko.DefaultEnv, []string{"CGO_ENABLED=0"}) || !strings.Contains(string(script), "CGO_ENABLED=0 ") {
		t.Errorf("environment of ko: %v", ko.DefaultEnv)
	}
	if !strings.Contains(ko.DefaultBaseImage, ":nonroot@sha256:") {
		t.Errorf("base image %s is not pinned, or runs as root", ko.DefaultBaseImage)
	}
}

func TestAnUnknownServiceIsRefused(t *testing.T) {
	out, err := exec.Command(filepath.Join(repository, "scripts", "image-binary"), "nobody", "amd64", filepath.Join(t.TempDir(), "x")).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "the images are: bank catalog") {
		t.Errorf("%v: %s", err, out)
	}
}

// Without a tool the scripts say what to install.
func TestRemedies(t *testing.T) {
	path := t.TempDir()
	for _, program := range []string{"bash", "sh", "dirname", "basename", "git", "mkdir", "cat", "env"} {
		if found, err := exec.LookPath(program); err == nil {
			if err := os.Symlink(found, filepath.Join(path, program)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for script, says := range map[string][]string{
		"images":       {"none of ko, docker and buildah is on the PATH", "go install github.com/google/ko"},
		"kind-cluster": {"docker is not on the PATH; see https://docs.docker.com", "kind is not on the PATH; see https://kind.sigs.k8s.io", "kubectl is not on the PATH"},
	} {
		cmd := exec.Command(filepath.Join(repository, "scripts", script))
		cmd.Env = []string{"PATH=" + path, "HOME=" + t.TempDir()}
		out, err := cmd.CombinedOutput()
		for _, want := range says {
			if err == nil || !strings.Contains(string(out), want) {
				t.Errorf("%s: %v: %s, want %q", script, err, out, want)
			}
		}
	}
}

// A container that Tilt updates in place: the new binary runs, signals and exit
// codes pass through.
func TestSupervise(t *testing.T) {
	dir := t.TempDir()
	text, err := os.ReadFile(filepath.Join(repository, "tilt", "live-update", "supervise"))
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name+".new"), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, name+".new"), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	service := func(version, code string) string {
		return "#!/bin/sh\ntrap 'echo " + version + " drains >>" + dir + "/said; kill $sleeping; exit " + code + "' TERM\n" +
			"sleep 600 & sleeping=$!\necho " + version + " \"$@\" >>" + dir + "/said\nwait\n"
	}
	write("supervise", string(text))
	write("spillway", service("first", "0"))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(dir, "supervise"), "--flag")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	said := func(want string) {
		t.Helper()
		for have := ""; ; {
			if text, err := os.ReadFile(filepath.Join(dir, "said")); err == nil {
				have = string(text)
			}
			if have == want {
				return
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				t.Fatalf("said %q, want %q", have, want)
			}
		}
	}
	said("first --flag\n")
	write("spillway", service("second", "7"))
	if out, err := exec.Command(filepath.Join(dir, "supervise"), "restart").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	said("first --flag\nfirst drains\nsecond --flag\n")
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	err = cmd.Wait()
	said("first --flag\nfirst drains\nsecond --flag\nsecond drains\n")
	if failed, ok := errors.AsType[*exec.ExitError](err); !ok || failed.ExitCode() != 7 {
		t.Errorf("supervise ended with %v, the service with 7", err)
	}
}

// goreleaser and scripts/release-archive make the same archive.
func TestReleasesAreMadeTheSameWay(t *testing.T) {
	script, err := os.ReadFile(filepath.Join(repository, "scripts", "release-archive"))
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(repository, ".goreleaser.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var config struct {
		Version int
		Builds  []struct {
			ID, Main, Binary                  string
			Env, Goos, Goarch, Flags, Ldflags []string
		}
		Archives []struct {
			Files []struct{ Src string }
			Wrap  bool `json:"wrap_in_directory"`
		}
	}
	if err := yaml.Unmarshal(text, &config); err != nil {
		t.Fatal(err)
	}
	modules, err := filepath.Glob(filepath.Join(repository, "services", "*", "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	programs := map[string]string{"spillway": "./lab/cmd/spillway"}
	for _, module := range modules {
		service := filepath.Base(filepath.Dir(module))
		programs[service] = "./services/" + service
	}
	for _, build := range config.Builds {
		if programs[build.ID] != build.Main || build.Binary != "bin/"+build.ID {
			t.Errorf("build %s: %s of %s", build.ID, build.Binary, build.Main)
		}
		delete(programs, build.ID)
		if !slices.Equal(build.Env, []string{"CGO_ENABLED=0"}) || !slices.Equal(build.Goos, []string{"linux", "darwin"}) || !slices.Equal(build.Goarch, []string{"amd64", "arm64"}) {
			t.Errorf("build %s: %v %v %v", build.ID, build.Env, build.Goos, build.Goarch)
		}
		for _, flag := range append(slices.Clone(build.Flags), "-ldflags='"+strings.Join(build.Ldflags, " ")+"'") {
			if !strings.Contains(string(script), flag) {
				t.Errorf("goreleaser builds %s with %s, the script does not", build.ID, flag)
			}
		}
	}
	for id := range programs {
		t.Errorf("goreleaser leaves %s out", id)
	}
	var contents []string
	for _, file := range config.Archives[0].Files {
		contents = append(contents, strings.TrimSuffix(file.Src, "/**"))
	}
	if want := "contents=(" + strings.Join(contents, " ") + ")"; !strings.Contains(string(script), want) || !config.Archives[0].Wrap {
		t.Errorf("the script has other %s", want)
	}
}
