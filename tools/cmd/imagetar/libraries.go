package main

import (
	"debug/elf"
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// places are where the dynamic loader of this machine looks by itself.
// https://man7.org/linux/man-pages/man8/ld.so.8.html
func places() []string {
	multiarch, _ := filepath.Glob("/lib/*-linux-gnu") // the pattern is well formed
	return append(multiarch, "/lib64", "/usr/lib64", "/lib", "/usr/lib")
}

// needs lists the loader and all shared libraries that programs need, directly
// or through each other, where the loader finds them. A program without any is
// static and needs nothing.
func needs(programs []file) (libraries []file, err error) {
	queue := slices.Clone(programs)
	known := map[string]bool{}
	for len(queue) > 0 {
		from := queue[0].from
		queue = queue[1:]
		names, loader, err := dynamic(from)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", from, err)
		}
		if loader != "" && !known[loader] {
			known[loader] = true
			libraries = append(libraries, file{to: loader, from: loader})
		}
		for _, name := range names {
			if known[name] || known[filepath.Join("/lib64", name)] {
				continue
			}
			known[name] = true
			path, err := find(name)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", from, err)
			}
			library := file{to: path, from: path}
			libraries, queue = append(libraries, library), append(queue, library)
		}
	}
	return libraries, nil
}

// dynamic reads which libraries a program names, and which loader.
func dynamic(path string) (names []string, loader string, err error) {
	program, err := elf.Open(path)
	if err != nil {
		return nil, "", err
	}
	defer program.Close()
	for _, p := range program.Progs {
		if p.Type == elf.PT_INTERP {
			text := make([]byte, p.Filesz)
			if _, err := p.ReadAt(text, 0); err != nil {
				return nil, "", err
			}
			loader = string(text[:max(0, len(text)-1)]) // without its NUL
		}
	}
	names, err = program.ImportedLibraries()
	return names, loader, err
}

func find(library string) (string, error) {
	for _, dir := range places() {
		path := filepath.Join(dir, library)
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("its library %s is in none of %v", library, places())
}
