//go:build cluster

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// What the tests take from the tree: they run in lab/e2e, also inside a cluster's
// network, with the programs that scripts/test-cluster built.
const (
	tree     = "../.."
	spillway = tree + "/bin/cluster/spillway"
	overlay  = tree + "/k8s/overlays/ci"
)

// The namespaces of the overlay, and the label without which none is touched.
const (
	meshNamespace     = "spillway"
	observeNamespace  = "observability"
	labLabel, labMark = "spillway.dev/lab", "true"
)

// replicated are the Deployments of the mesh that several replicas serve. The
// bank is not among them: one replica's journal only one process may have, so it
// is replaced, not rolled.
var replicated = []string{"gateway", "session", "catalog", "inventory", "order", "payment", "ticketing"}

// everyService is all that a purchase goes through.
var everyService = append(slices.Clone(replicated), "bank")

// conditionPatience bounds every wait for a condition of the cluster: images
// start, metrics come in turns of 10 and 15 s, and two cores do all of it. No
// test waits for it to pass.
const conditionPatience = 5 * time.Minute

// cluster is a mesh in a cluster.
type cluster struct {
	*testing.T
	context string
	config  *rest.Config
	client  kubernetes.Interface
	objects dynamic.Interface
	warned  *warnings
}

// warnings are what the API server warned of.
type warnings struct {
	mu    sync.Mutex
	texts []string
}

// HandleWarningHeader implements rest.WarningHandler.
func (w *warnings) HandleWarningHeader(_ int, _ string, text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.texts = append(w.texts, text)
}

func (w *warnings) all() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.texts)
}

// connect uses the context that SPILLWAY_TEST_CONTEXT names, or the current one.
func connect(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{T: t, context: os.Getenv("SPILLWAY_TEST_CONTEXT"), warned: new(warnings)}
	loader := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(clientcmd.NewDefaultClientConfigLoadingRules(),
		&clientcmd.ConfigOverrides{CurrentContext: c.context})
	config, err := loader.ClientConfig()
	if err != nil {
		t.Fatalf("no cluster: %v: run this with scripts/test-cluster", err)
	}
	config.QPS, config.Burst, config.WarningHandler = 50, 100, c.warned
	c.config = config
	if c.client, err = kubernetes.NewForConfig(config); err != nil {
		t.Fatal(err)
	}
	if c.objects, err = dynamic.NewForConfig(config); err != nil {
		t.Fatal(err)
	}
	return c
}

// of is the same cluster in a part of the test.
func (c *cluster) of(t *testing.T) *cluster {
	here := *c
	here.T = t
	return &here
}

// eventually waits for a condition.
func (c *cluster) eventually(what string, holds func(context.Context) error) {
	c.Helper()
	deadline := time.Now().Add(conditionPatience)
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		err := holds(c.Context())
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			c.Fatalf("%s: not within %v: %v", what, conditionPatience, err)
		}
		select {
		case <-tick.C:
		case <-c.Context().Done():
			c.Fatal(c.Context().Err())
		}
	}
}

// cli runs a command of spillway against the cluster and returns what it prints
// and its exit code.
func (c *cluster) cli(args ...string) (stdout []byte, code int) {
	c.Helper()
	ctx, cancel := context.WithTimeout(c.Context(), time.Hour)
	defer cancel()
	path, err := filepath.Abs(spillway)
	if err != nil {
		c.Fatal(err)
	}
	args = append(args, "--engine", "kube", "--namespace", meshNamespace)
	if c.context != "" {
		args = append(args, "--context", c.context)
	}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Dir = tree
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	if _, exit := errors.AsType[*exec.ExitError](err); err != nil && !exit {
		c.Fatalf("%v: run this with scripts/test-cluster", err)
	}
	if code = cmd.ProcessState.ExitCode(); code != 0 {
		c.Logf("spillway %s: exit code %d\n%s%s", strings.Join(args, " "), code, &out, &errs)
	}
	return out.Bytes(), code
}

// cliJSON is cli for a command that must succeed and print JSON.
func (c *cluster) cliJSON(v any, args ...string) {
	c.Helper()
	out, code := c.cli(append(args, "--json")...)
	if err := json.Unmarshal(out, v); err != nil {
		c.Fatalf("spillway %s does not print JSON: %v\n%s", strings.Join(args, " "), err, out)
	}
	if code != 0 {
		c.Fatalf("spillway %s: exit code %d", strings.Join(args, " "), code)
	}
}

// through asks a Service over HTTP by way of the API server, which reaches it
// from wherever the test runs.
func (c *cluster) through(ctx context.Context, namespace, service, port, path string, query url.Values) ([]byte, error) {
	params := make(map[string]string)
	for key := range query {
		params[key] = query.Get(key)
	}
	return c.client.CoreV1().Services(namespace).ProxyGet("http", service, port, path, params).DoRaw(ctx)
}

// prometheus evaluates a query in the cluster's Prometheus now.
func (c *cluster) prometheus(ctx context.Context, query string) (model.Vector, error) {
	text, err := c.through(ctx, observeNamespace, "prometheus", "9090", "/api/v1/query", url.Values{"query": {query}})
	if err != nil {
		return nil, fmt.Errorf("ask Prometheus for %s: %w: %s", query, err, text)
	}
	var answer struct {
		Data struct {
			Result model.Vector `json:"result"`
		} `json:"data"`
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		return nil, fmt.Errorf("Prometheus' answer to %s: %w", query, err)
	}
	return answer.Data.Result, nil
}

// deployment reads one of the mesh.
func (c *cluster) deployment(ctx context.Context, name string) (*appsv1.Deployment, error) {
	return c.client.AppsV1().Deployments(meshNamespace).Get(ctx, name, metav1.GetOptions{})
}

// settled tells what a Deployment still lacks to have what was last asked of it.
func settled(d *appsv1.Deployment) error {
	want := *d.Spec.Replicas
	s := d.Status
	if s.ObservedGeneration < d.Generation {
		return fmt.Errorf("%s: the change is not seen yet", d.Name)
	}
	if s.Replicas != want || s.UpdatedReplicas != want || s.AvailableReplicas != want || s.UnavailableReplicas != 0 {
		return fmt.Errorf("%s: %d wanted, %d there, %d new, %d available", d.Name, want, s.Replicas, s.UpdatedReplicas, s.AvailableReplicas)
	}
	return nil
}

// settle waits until Deployments of the mesh are as they were asked to be and no
// pod of them is on its way out.
func (c *cluster) settle(names ...string) {
	c.Helper()
	for _, name := range names {
		c.eventually(name+" is as wanted", func(ctx context.Context) error {
			d, err := c.deployment(ctx, name)
			if err != nil {
				return err
			}
			if err := settled(d); err != nil {
				return err
			}
			pods, err := c.pods(ctx, name)
			if err == nil && len(pods) != int(*d.Spec.Replicas) {
				err = fmt.Errorf("%d pods of %s, %d wanted", len(pods), name, *d.Spec.Replicas)
			}
			return err
		})
	}
}

// pods are those of a workload of the mesh, also such as are on their way out.
func (c *cluster) pods(ctx context.Context, name string) ([]corev1.Pod, error) {
	list, err := c.client.CoreV1().Pods(meshNamespace).List(ctx, metav1.ListOptions{LabelSelector: "app.kubernetes.io/name=" + name})
	if err != nil {
		return nil, err
	}
	return list.Items, nil
}

// logs reads what a pod's one container has printed.
func (c *cluster) logs(ctx context.Context, namespace, pod string) ([]byte, error) {
	stream, err := c.client.CoreV1().Pods(namespace).GetLogs(pod, &corev1.PodLogOptions{}).Stream(ctx)
	if err != nil {
		return nil, err
	}
	defer stream.Close()
	return io.ReadAll(stream)
}

// explain tells, when a test has failed, what a person would look at first.
func (c *cluster) explain(ctx context.Context) {
	for _, namespace := range []string{meshNamespace, observeNamespace} {
		pods, err := c.client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			c.Logf("list the pods of %s: %v", namespace, err)
			continue
		}
		for _, pod := range pods.Items {
			for _, s := range pod.Status.ContainerStatuses {
				if s.Ready && s.RestartCount == 0 || pod.Status.Phase == corev1.PodSucceeded {
					continue
				}
				text, err := c.logs(ctx, namespace, pod.Name)
				c.Logf("%s/%s: phase %s, ready %v, restarts %d, state %+v\n%s %v", namespace, pod.Name, pod.Status.Phase, s.Ready, s.RestartCount,
					s.State, text[max(0, len(text)-2000):], err)
			}
			if len(pod.Status.ContainerStatuses) == 0 {
				c.Logf("%s/%s: %s %+v", namespace, pod.Name, pod.Status.Phase, pod.Status.Conditions)
			}
		}
		events, err := c.client.CoreV1().Events(namespace).List(ctx, metav1.ListOptions{FieldSelector: "type=Warning"})
		if err != nil {
			c.Logf("list the events of %s: %v", namespace, err)
			continue
		}
		for _, e := range events.Items[max(0, len(events.Items)-20):] {
			c.Logf("event in %s: %s %s: %s (%d times)", namespace, e.InvolvedObject.Name, e.Reason, e.Message, e.Count)
		}
	}
}
