package experiment

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"spillway.dev/lab/engine/local"
)

// runsDir holds what each run keeps, stateDir the state of a run's mesh while it
// goes on.
const (
	runsDir  = "runs"
	stateDir = "state"
)

// clean ends and removes what an experiment that was killed has left in the
// directory of the report.
func clean(o Options) error {
	runs, err := os.ReadDir(filepath.Join(o.Dir, runsDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look for what an earlier run left: %w", err)
	}
	for _, run := range runs {
		ended, err := local.Clean(filepath.Join(o.Dir, runsDir, run.Name(), stateDir))
		if err != nil {
			return fmt.Errorf("clear away what an earlier run left: %w", err)
		}
		if len(ended) > 0 {
			o.Progress(Moment{Note: "an earlier run was killed; what it had left running was ended: " + strings.Join(ended, ", ")})
		}
	}
	return nil
}

// still is a root whose manifests stay as they are now: variants answer one
// question only when nothing else differs between them, and whoever edits k8s/
// meanwhile must not change the mesh under the measurement. The programs are those
// of the root itself.
func still(root string) (_ string, release func(), err error) {
	root, err = filepath.Abs(root)
	if err != nil {
		return "", nil, fmt.Errorf("root directory: %w", err)
	}
	dir, err := os.MkdirTemp("", "spillway-run-")
	if err != nil {
		return "", nil, fmt.Errorf("keep the manifests as they are: %w", err)
	}
	release = func() { _ = os.RemoveAll(dir) }
	if err := errors.Join(
		os.CopyFS(filepath.Join(dir, "k8s"), os.DirFS(filepath.Join(root, "k8s"))),
		os.Symlink(filepath.Join(root, "bin"), filepath.Join(dir, "bin")),
	); err != nil {
		release()
		return "", nil, fmt.Errorf("keep the manifests as they are: %w", err)
	}
	return dir, release, nil
}
