// Package cluster runs the meshes of experiments in a namespace of a Kubernetes
// cluster: one after the other, each in place of the one before.
//
// What a local engine brings is the cluster's own there: its Prometheus scrapes,
// its controller scales, and load comes from a pod. So time is real.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"spillway.dev/lab/engine/kube"
	"spillway.dev/lab/engine/manifest"
	"spillway.dev/lab/experiment"
	"spillway.dev/lab/metrics/remote"
	"spillway.dev/lab/scenario"
)

// upPatience bounds how long a cluster may take from a namespace with an old mesh to
// a new one that is ready.
const upPatience = 8 * time.Minute

// Engine runs meshes in a cluster. It implements experiment.Engine.
type Engine struct {
	// Config says where. The namespace must be marked as a lab: everything in it is
	// deleted before each variant.
	Config kube.Config
	// Overlay is a directory of k8s/overlays, such as ci.
	Overlay string
}

// Check implements experiment.Engine. It refuses what a cluster can't do, and asks
// the cluster for nothing.
func (e Engine) Check(s *scenario.Scenario, root string) (map[string]bool, error) {
	scratch, err := os.MkdirTemp("", "spillway-scenario-")
	if err != nil {
		return nil, fmt.Errorf("check the scenario: %w", err)
	}
	defer os.RemoveAll(scratch)
	for _, f := range s.Faults {
		if f.Fault.Pause != nil {
			return nil, fmt.Errorf("the fault %q can't be had in a cluster: images hold no program that could send SIGSTOP; give --engine local, or slow the service down", f.Fault.String())
		}
	}
	all := s.ScaledByHand()
	for _, v := range s.Variants {
		if v.Nodes != nil {
			return nil, fmt.Errorf("variant %s says which nodes there are, and a cluster has its own; give --engine local", v.Name)
		}
		text, err := e.render(root, changes(v), filepath.Join(scratch, v.Name))
		if err != nil {
			return nil, fmt.Errorf("variant %s: %w", v.Name, err)
		}
		services, byAutoscaler, err := kube.Services(text, e.Config.Namespace)
		if err != nil {
			return nil, fmt.Errorf("variant %s: %w", v.Name, err)
		}
		if err := s.CheckServices(services); err != nil {
			return nil, err
		}
		for service := range byAutoscaler {
			all[service] = true
		}
	}
	return all, nil
}

func changes(v scenario.Variant) manifest.Variant {
	return manifest.Variant{Components: v.Components, Patches: v.Patches}
}

func (e Engine) render(root string, v manifest.Variant, scratch string) ([]byte, error) {
	return manifest.RenderVariant(filepath.Join(root, "k8s"), filepath.Join("overlays", e.Overlay), v, scratch)
}

// lastScrape has every replica that drains wait until Prometheus has read its last
// figures: sums over replicas that come and go are then whole. It is longer than the
// time between two scrapes, and with preStop and drain shorter than the grace period
// of k8s/base.
func lastScrape(services []string) manifest.Patch {
	return manifest.Patch{
		Target: manifest.Selector{Kind: "Deployment", Name: strings.Join(services, "|")},
		Patch: `apiVersion: apps/v1
kind: Deployment
metadata:
  name: every-service
spec:
  template:
    spec:
      containers:
        - name: service
          env:
            - name: SPILLWAY_DRAIN_LAST_SCRAPE
              value: 12s
`,
	}
}

// manifests renders a variant, and names the services that it has.
func (e Engine) manifests(root string, v scenario.Variant) (text []byte, services []string, err error) {
	scratch, err := os.MkdirTemp("", "spillway-run-")
	if err != nil {
		return nil, nil, fmt.Errorf("render the variant: %w", err)
	}
	defer os.RemoveAll(scratch)
	plain := changes(v)
	if text, err = e.render(root, plain, filepath.Join(scratch, "plain")); err != nil {
		return nil, nil, err
	}
	if services, _, err = kube.Services(text, e.Config.Namespace); err != nil {
		return nil, nil, err
	}
	plain.Patches = append(append([]manifest.Patch{}, plain.Patches...), lastScrape(services))
	text, err = e.render(root, plain, filepath.Join(scratch, "read"))
	return text, services, err
}

// Up implements experiment.Engine: it empties the namespace, applies the variant,
// and waits for its replicas. The mesh outlives the trial; the next one takes it
// away.
func (e Engine) Up(ctx context.Context, s experiment.Start) (experiment.Mesh, error) {
	text, services, err := e.manifests(s.Root, s.Variant)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, upPatience)
	defer cancel()
	config := e.Config
	config.New = true
	cluster, err := kube.Connect(ctx, config)
	if err != nil {
		return nil, err
	}
	if err := cluster.Empty(ctx); err != nil {
		return nil, err
	}
	since := time.Now()
	if err := cluster.Apply(ctx, text, true, nil); err != nil {
		return nil, err
	}
	if err := cluster.WaitReady(ctx, nil); err != nil {
		return nil, err
	}
	session, err := kube.Open(cluster)
	if err != nil {
		return nil, err
	}
	m, err := observe(ctx, session, services, since)
	if err != nil {
		return nil, errors.Join(err, session.Close())
	}
	return m, nil
}

// observe begins to watch a mesh that runs.
func observe(ctx context.Context, session *kube.Session, services []string, since time.Time) (*mesh, error) {
	url, err := session.PrometheusURL(ctx)
	if err != nil {
		return nil, err
	}
	metrics, err := remote.Open(ctx, url)
	if err != nil {
		return nil, err
	}
	m := newMesh(session, metrics, services, since)
	if err := m.begin(ctx); err != nil {
		m.end()
		return nil, err
	}
	return m, nil
}

// Environment implements experiment.Engine. What the cluster does not tell is left
// out.
func (e Engine) Environment(ctx context.Context) map[string]string {
	env := map[string]string{"engine": "kube: a Kubernetes cluster", "overlay": e.Overlay, "namespace": e.Config.Namespace}
	config := e.Config
	config.New = true
	cluster, err := kube.Connect(ctx, config)
	if err != nil {
		return env
	}
	env["context"] = cluster.Context()
	if nodes, err := cluster.Nodes(ctx); err == nil {
		env["kubernetes"] = nodes.Version
		env["nodes"] = fmt.Sprintf("%d, with %g cores and %.1f GiB together", nodes.Count, nodes.Cores, nodes.Memory/(1<<30))
	}
	return env
}
