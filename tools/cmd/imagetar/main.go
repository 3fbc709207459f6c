// Command imagetar writes a container image of files of this machine, as a tar
// that `docker load`, `kind load image-archive` and `ctr images import` read:
//
//	imagetar -o catalog.tar -name spillway/catalog:0.1.0 /catalog=bin/cluster/catalog
//
// The first file is what the image runs; with -libraries the shared libraries
// of all its programs come along. It needs no daemon and no base image, and the
// same files give the same bytes. The images are for tests of a cluster that
// has no registry.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"runtime"
	"strings"
)

func main() {
	out := flag.String("o", "", "tar to write")
	name := flag.String("name", "", "name:tag of the image")
	libraries := flag.Bool("libraries", false, "take along the shared libraries that the files need")
	flag.Usage = func() {
		fmt.Fprintln(os.Stderr, "usage: imagetar -o IMAGE.tar -name NAME:TAG [-libraries] /PATH=FILE...")
		flag.PrintDefaults()
	}
	flag.Parse()
	if *out == "" || !strings.Contains(*name, ":") || flag.NArg() == 0 {
		flag.Usage()
		os.Exit(2)
	}
	if err := write(*out, *name, *libraries, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "imagetar:", err)
		os.Exit(1)
	}
}

func write(out, name string, libraries bool, pairs []string) error {
	var files []file
	for _, pair := range pairs {
		to, from, ok := strings.Cut(pair, "=")
		if !ok || !strings.HasPrefix(to, "/") {
			return fmt.Errorf("%q: want /PATH=FILE", pair)
		}
		files = append(files, file{to: to, from: from})
	}
	if libraries {
		needed, err := needs(files)
		if err != nil {
			return err
		}
		files = append(files, needed...)
	}
	var image bytes.Buffer
	if err := pack(&image, name, runtime.GOARCH, files); err != nil {
		return err
	}
	return os.WriteFile(out, image.Bytes(), 0o644)
}
