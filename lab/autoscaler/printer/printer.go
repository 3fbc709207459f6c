// Package printer prints Kubernetes objects of a local mesh as kubectl does,
// with kubectl's own code.
package printer

import (
	"fmt"
	"io"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	cliprinters "k8s.io/cli-runtime/pkg/printers"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	_ "k8s.io/kubernetes/pkg/apis/apps/install"
	_ "k8s.io/kubernetes/pkg/apis/autoscaling/install"
	_ "k8s.io/kubernetes/pkg/apis/core/install"
	"k8s.io/kubernetes/pkg/printers"
	printersinternal "k8s.io/kubernetes/pkg/printers/internalversion"
)

// Get prints objects of one kind as `kubectl get` does; wide is its `-o wide`.
// The objects are JSON documents, as AutoscalerService.ListObjects returns them.
// Of none it says "No resources found".
func Get(w io.Writer, objects []string, wide bool) error {
	if len(objects) == 0 {
		_, err := fmt.Fprintln(w, "No resources found")
		return err
	}
	generator := printers.NewTableGenerator().With(printersinternal.AddHandlers)
	var all *metav1.Table
	for _, text := range objects {
		// Kubernetes' printers take its internal types.
		object, err := runtime.Decode(legacyscheme.Codecs.UniversalDecoder(), []byte(text))
		if err != nil {
			return fmt.Errorf("print an object: %w", err)
		}
		table, err := generator.GenerateTable(object, printers.GenerateOptions{Wide: wide})
		if err != nil {
			return fmt.Errorf("print an object: %w", err)
		}
		if all == nil {
			all = table
			continue
		}
		all.Rows = append(all.Rows, table.Rows...)
	}
	return cliprinters.NewTablePrinter(cliprinters.PrintOptions{Wide: wide}).PrintObj(all, w)
}
