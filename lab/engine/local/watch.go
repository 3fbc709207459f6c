package local

import (
	"context"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

// settle is how long the files must be quiet before they are read: an editor
// writes in several steps, a checkout many files.
const settle = 200 * time.Millisecond

// watchManifests reads the overlay again whenever a file under k8s/ changes.
func (e *Engine) watchManifests(ctx context.Context) error {
	// A walk does not enter a symbolic link that it begins at.
	root, err := filepath.EvalSymlinks(filepath.Join(e.options.Root, "k8s"))
	if err != nil {
		return fmt.Errorf("watch the manifests: %w", err)
	}
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch the manifests: %w", err)
	}
	add := func(dir string) error {
		return filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || !entry.IsDir() {
				return err
			}
			return watcher.Add(path)
		})
	}
	if err := add(root); err != nil {
		watcher.Close()
		return fmt.Errorf("watch the manifests: %w", err)
	}
	e.background.Go(func() {
		defer watcher.Close()
		quiet := time.NewTimer(settle)
		quiet.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case event := <-watcher.Events:
				if event.Has(fsnotify.Create) {
					_ = add(event.Name) // a directory, perhaps
				}
				if !event.Has(fsnotify.Chmod) || event.Op != fsnotify.Chmod {
					quiet.Reset(settle)
				}
			case err := <-watcher.Errors:
				e.options.Log.Warn("watch the manifests", "error", err)
			case <-quiet.C:
				e.reload()
			}
		}
	})
	return nil
}

// reload makes changed manifests the ones that hold, unless they are wrong.
func (e *Engine) reload() {
	manifests, err := e.load()
	if err != nil {
		e.events.post(Event{Kind: EventManifestError, Text: "the mesh goes on as it was: " + err.Error()})
		return
	}
	e.mu.Lock()
	e.manifests = manifests
	e.mu.Unlock()
	e.adopt()
}
