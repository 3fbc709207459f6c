package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"spillway.dev/lab/engine/kube"
	"spillway.dev/lab/engine/manifest"
	faultv1 "spillway.dev/proto/gen/spillway/fault/v1"
)

// The engines.
const (
	engineLocal = "local"
	engineKube  = "kube"
)

// engineVariable chooses the engine where --engine does not.
const engineVariable = "SPILLWAY_ENGINE"

// clearPatience bounds the end of a fault after Ctrl-C.
const clearPatience = 30 * time.Second

// engineFlags adds the flags that say where the mesh is.
func (a *app) engineFlags(root *cobra.Command) {
	flags := root.PersistentFlags()
	flags.StringVar(&a.kind, "engine", cmp.Or(os.Getenv(engineVariable), engineLocal), "where the mesh is: local, or kube for a cluster (or "+engineVariable+")")
	flags.StringVar(&a.cluster.Context, "context", "", "context of the kubeconfig, for --engine kube (default: its current one)")
	flags.StringVar(&a.cluster.Namespace, "namespace", "spillway", "namespace of the mesh, for --engine kube")
}

// checkOverlay checks the flag --overlay of a command that applies one.
func (a *app) checkOverlay(overlay string) error {
	switch {
	case a.kind == engineKube && overlay == "":
		return usagef("--overlay is missing; give ci, kind or cluster, a directory of k8s/overlays")
	case a.kind != engineKube && overlay != "":
		return usagef("--overlay is for --engine kube; this machine runs k8s/overlays/local")
	}
	return nil
}

// chooseEngine checks what the flags say together.
func (a *app) chooseEngine(cmd *cobra.Command) error {
	if cmd.Hidden { // a process of a local mesh, whatever its environment says of others
		a.kind = engineLocal
	}
	switch a.kind {
	case engineLocal:
		for _, name := range []string{"context", "namespace"} {
			if cmd.Flags().Changed(name) {
				return usagef("--%s is about a cluster; give --engine kube too", name)
			}
		}
	case engineKube:
		if a.cluster.Namespace == "" {
			return usagef("--namespace is empty; name one, or leave it out for spillway")
		}
	default:
		return usagef("--engine is %q; give local or kube", a.kind)
	}
	a.session = func() (*kube.Session, error) {
		c, err := kube.Connect(cmd.Context(), a.cluster)
		if err != nil {
			return nil, err
		}
		if a.cluster.Context == "" {
			a.cluster.Context = c.Context() // for where
		}
		return kube.Open(c)
	}
	return nil
}

// where ends a line that tells of a change: in which cluster; empty on this
// machine.
func (a *app) where() string {
	if a.kind != engineKube {
		return ""
	}
	return fmt.Sprintf(" in namespace %s of context %s", a.cluster.Namespace, a.cluster.Context)
}

// holdFault waits for the end of a fault that ends by itself, where nothing else
// would end it: in a cluster nobody runs for that. Ctrl-C ends it at once.
func (a *app) holdFault(ctx context.Context, faults faultv1.FaultServiceClient, f *faultv1.ActiveFault) error {
	if a.kind != engineKube || f.GetEndsAt() == nil || f.GetFault().GetKill() != nil {
		return nil
	}
	fmt.Fprintln(a.err, "Waiting to end it; Ctrl-C ends it now.")
	timer := time.NewTimer(time.Until(f.GetEndsAt().AsTime()))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), clearPatience)
	defer cancel()
	list, err := faults.ListFaults(ctx, &faultv1.ListFaultsRequest{})
	if err != nil {
		return errors.Join(errors.New("the fault may still be in force"), err)
	}
	for _, other := range list.GetFaults() {
		if other.GetId() == f.GetId() {
			_, err = faults.ClearFault(ctx, &faultv1.ClearFaultRequest{Id: f.GetId()})
		}
	}
	if status.Code(err) == codes.NotFound { // it ended by itself in this moment
		err = nil
	}
	if err == nil {
		fmt.Fprintf(a.out, "%s: ended%s\n", f.GetId(), a.where())
	}
	return err
}

// settlePatience bounds how long a cluster may take for what it was told.
const settlePatience = 5 * time.Minute

// upCluster applies an overlay with a variant's components and waits until its
// workloads are ready.
func (a *app) upCluster(ctx context.Context, root, overlay string, variant manifest.Variant) error {
	scratch, err := os.MkdirTemp("", "spillway-up-")
	if err != nil {
		return fmt.Errorf("render the overlay: %w", err)
	}
	defer os.RemoveAll(scratch)
	manifests, err := manifest.RenderVariant(filepath.Join(root, "k8s"), filepath.Join("overlays", overlay), variant, scratch)
	if err != nil {
		return usageError{err}
	}
	config := a.cluster
	config.New = true
	cluster, err := kube.Connect(ctx, config)
	if err != nil {
		return err
	}
	begin := time.Now()
	fmt.Fprintf(a.out, "Applying overlays/%s to %s.\n", overlay, cluster.Where())
	tell := func(text string) { fmt.Fprintf(a.out, "  %s\n", text) }
	err = cluster.Apply(ctx, manifests, false, tell)
	for _, w := range cluster.Warnings() {
		fmt.Fprintf(a.err, "warning: %s\n", w)
	}
	if err != nil {
		return err
	}
	waiting, cancel := context.WithTimeout(ctx, settlePatience)
	defer cancel()
	if err := cluster.WaitReady(waiting, tell); err != nil {
		return err
	}
	fmt.Fprintf(a.out, "The mesh serves in %s after %s.\n", cluster.Where(), time.Since(begin).Round(100*time.Millisecond))
	return nil
}

// downCluster deletes what was applied.
func (a *app) downCluster(ctx context.Context) error {
	cluster, err := kube.Connect(ctx, a.cluster)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, settlePatience)
	defer cancel()
	fmt.Fprintf(a.out, "Deleting what was applied to %s.\n", cluster.Where())
	return cluster.Down(ctx, func(text string) { fmt.Fprintf(a.out, "  %s\n", text) })
}
