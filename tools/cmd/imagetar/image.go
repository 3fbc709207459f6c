package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"os"
	"strings"
)

// nonroot is the user that images run as, the one of distroless images.
const nonroot = "65532"

// file is a program or library: where it is here, and where in the image.
type file struct{ to, from string }

// pack writes an image in docker's archive format: one layer, its configuration
// and a manifest. https://github.com/moby/docker-image-spec/blob/main/spec.md
func pack(w io.Writer, name, arch string, files []file) error {
	var layer bytes.Buffer
	if err := writeLayer(&layer, files); err != nil {
		return err
	}
	digest := sum(layer.Bytes())
	config, err := json.Marshal(map[string]any{
		"architecture": arch, "os": "linux", "created": "1970-01-01T00:00:00Z",
		"config": map[string]any{
			"Entrypoint": []string{files[0].to}, "User": nonroot, "WorkingDir": "/", "Env": []string{"PATH=/"},
		},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + digest}},
	})
	if err != nil {
		return err
	}
	manifest, err := json.Marshal([]map[string]any{{
		"Config": sum(config) + ".json", "RepoTags": []string{name}, "Layers": []string{digest + "/layer.tar"},
	}})
	if err != nil {
		return err
	}
	archive := tar.NewWriter(w)
	for _, entry := range []struct {
		name string
		text []byte
	}{
		{sum(config) + ".json", config},
		{digest + "/layer.tar", layer.Bytes()},
		{"manifest.json", manifest},
	} {
		if err := put(archive, entry.name, 0o644, entry.text); err != nil {
			return err
		}
	}
	return archive.Close()
}

// writeLayer writes the files, the directories that they lie in, a /tmp and the
// names of the two users.
func writeLayer(w io.Writer, files []file) error {
	layer := tar.NewWriter(w)
	made := map[string]bool{}
	within := func(path string, mode int64) error {
		for i, c := range path {
			if dir := path[:i]; c == '/' && !made[dir] {
				made[dir] = true
				if err := layer.WriteHeader(&tar.Header{Name: dir + "/", Typeflag: tar.TypeDir, Mode: mode}); err != nil {
					return err
				}
			}
		}
		return nil
	}
	if err := within("tmp/", 0o1777); err != nil {
		return err
	}
	if err := within("etc/", 0o755); err != nil {
		return err
	}
	if err := put(layer, "etc/passwd", 0o644, []byte("root:x:0:0:root:/:/\nnonroot:x:"+nonroot+":"+nonroot+":nonroot:/:/\n")); err != nil {
		return err
	}
	if err := put(layer, "etc/group", 0o644, []byte("root:x:0:\nnonroot:x:"+nonroot+":\n")); err != nil {
		return err
	}
	for _, f := range files {
		text, err := os.ReadFile(f.from)
		if err != nil {
			return err
		}
		path := strings.TrimPrefix(f.to, "/")
		if err := within(path, 0o755); err != nil {
			return err
		}
		if err := put(layer, path, 0o755, text); err != nil {
			return err
		}
	}
	return layer.Close()
}

func put(w *tar.Writer, name string, mode int64, text []byte) error {
	if err := w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: mode, Size: int64(len(text))}); err != nil {
		return err
	}
	_, err := w.Write(text)
	return err
}

func sum(text []byte) string {
	digest := sha256.Sum256(text)
	return hex.EncodeToString(digest[:])
}
