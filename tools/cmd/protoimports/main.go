// Command protoimports writes the .proto files that Spillway's own import. They
// are printed from the descriptors that the Go modules carry, so that buf needs
// no schema registry and nothing of theirs is kept in the tree.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	_ "buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"github.com/jhump/protoreflect/v2/protoprint"
	_ "go.opentelemetry.io/proto/otlp/trace/v1"
	_ "google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// roots are the files our .proto files import; what they import comes along.
var roots = []string{
	"buf/validate/validate.proto",
	"google/api/annotations.proto",
	"opentelemetry/proto/trace/v1/trace.proto",
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: protoimports DIRECTORY")
		os.Exit(2)
	}
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "protoimports:", err)
		os.Exit(1)
	}
}

func run(dir string) error {
	written := map[string]bool{}
	for _, path := range roots {
		file, err := protoregistry.GlobalFiles.FindFileByPath(path)
		if err != nil {
			return err
		}
		if err := write(dir, file, written); err != nil {
			return err
		}
	}
	return nil
}

func write(dir string, file protoreflect.FileDescriptor, written map[string]bool) error {
	// The well-known types come with buf itself.
	if written[file.Path()] || file.Package() == "google.protobuf" {
		return nil
	}
	written[file.Path()] = true
	imports := file.Imports()
	for i := range imports.Len() {
		if err := write(dir, imports.Get(i).FileDescriptor, written); err != nil {
			return err
		}
	}
	text, err := (&protoprint.Printer{}).PrintProtoToString(file)
	if err != nil {
		return fmt.Errorf("%s: %w", file.Path(), err)
	}
	name := filepath.Join(dir, filepath.FromSlash(file.Path()))
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	return os.WriteFile(name, []byte(text), 0o644)
}
