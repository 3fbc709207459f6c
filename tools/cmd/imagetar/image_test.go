package main

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// entries reads a tar.
func entries(t *testing.T, text []byte) map[string]*bytes.Buffer {
	t.Helper()
	found := map[string]*bytes.Buffer{}
	for r := tar.NewReader(bytes.NewReader(text)); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return found
		}
		if err != nil {
			t.Fatal(err)
		}
		if found[header.Name] != nil {
			t.Errorf("%s is there twice", header.Name)
		}
		found[header.Name] = new(bytes.Buffer)
		if _, err := io.Copy(found[header.Name], r); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAnImageHoldsWhatWasAskedFor(t *testing.T) {
	program := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(program, []byte("what it does"), 0o644); err != nil {
		t.Fatal(err)
	}
	var image, again bytes.Buffer
	files := []file{{to: "/opt/app/program", from: program}, {to: "/opt/app/other", from: program}}
	for _, w := range []*bytes.Buffer{&image, &again} {
		if err := pack(w, "spillway/test:1", "amd64", files); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(image.Bytes(), again.Bytes()) {
		t.Error("the same files gave different bytes")
	}

	outer := entries(t, image.Bytes())
	var manifest []struct {
		Config           string
		RepoTags, Layers []string
	}
	if err := json.Unmarshal(outer["manifest.json"].Bytes(), &manifest); err != nil {
		t.Fatal(err)
	}
	if len(manifest) != 1 || len(manifest[0].Layers) != 1 || manifest[0].RepoTags[0] != "spillway/test:1" {
		t.Fatalf("manifest %+v", manifest)
	}
	layer := outer[manifest[0].Layers[0]].Bytes()
	var config struct {
		Architecture string
		Config       struct {
			Entrypoint []string
			User       string
		}
		RootFS struct {
			DiffIDs []string `json:"diff_ids"`
		}
	}
	if err := json.Unmarshal(outer[manifest[0].Config].Bytes(), &config); err != nil {
		t.Fatal(err)
	}
	if config.Architecture != "amd64" || config.Config.Entrypoint[0] != "/opt/app/program" || config.Config.User != "65532" {
		t.Errorf("config %+v", config)
	}
	if want := "sha256:" + sum(layer); config.RootFS.DiffIDs[0] != want {
		t.Errorf("the layer is %s, not %s", config.RootFS.DiffIDs[0], want)
	}
	inner := entries(t, layer)
	for _, dir := range []string{"tmp/", "etc/", "opt/", "opt/app/"} {
		if inner[dir] == nil {
			t.Errorf("no directory %s", dir)
		}
	}
	if got := inner["opt/app/program"].String(); got != "what it does" {
		t.Errorf("the program is %q", got)
	}
}

func TestWhatIsWrongIsNamed(t *testing.T) {
	for _, pair := range []string{"program", "program=here"} {
		if err := write("x.tar", "a:1", false, []string{pair}); err == nil || !strings.Contains(err.Error(), pair) {
			t.Errorf("%s: %v", pair, err)
		}
	}
	if err := write(filepath.Join(t.TempDir(), "x.tar"), "a:1", false, []string{"/a=" + filepath.Join(t.TempDir(), "gone")}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
}
