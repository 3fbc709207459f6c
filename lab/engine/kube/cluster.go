package kube

import (
	"context"
	"fmt"
	"os"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/tools/clientcmd"
)

// Manager is the field manager under which everything is applied.
const Manager = "spillway"

// requests a second that the API server is asked at most, and in a burst: an
// apply of a hundred objects must not wait for client-go's own five.
const (
	requests = 50
	burst    = 100
)

// Config says which mesh is meant.
type Config struct {
	// Context of the kubeconfig; empty: its current one, or the cluster whose pod
	// this program runs in.
	Context string
	// Namespace that the mesh is in.
	Namespace string
	// New lets the namespace be one that Apply makes.
	New bool
}

// Cluster is a namespace of a cluster that may be broken. It is safe for
// concurrent use.
type Cluster struct {
	context, namespace string

	rest    *rest.Config
	client  kubernetes.Interface
	objects dynamic.Interface
	mapper  *restmapper.DeferredDiscoveryRESTMapper

	mu       sync.Mutex
	warnings []string
}

// Connect reads the kubeconfig and checks that the namespace is there and marked
// as a lab. It changes nothing.
func Connect(ctx context.Context, config Config) (*Cluster, error) {
	loader := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(clientcmd.NewDefaultClientConfigLoadingRules(),
		&clientcmd.ConfigOverrides{CurrentContext: config.Context})
	raw, err := loader.RawConfig()
	if err != nil {
		return nil, fmt.Errorf("read the kubeconfig: %w", err)
	}
	c := &Cluster{context: config.Context, namespace: config.Namespace}
	if c.context == "" {
		c.context = raw.CurrentContext
	}
	if _, there := raw.Contexts[c.context]; c.context != "" && !there {
		return nil, fmt.Errorf("the kubeconfig has no context %q: name one of `kubectl config get-contexts` with --context", c.context)
	}
	if c.rest, err = loader.ClientConfig(); err != nil {
		return nil, fmt.Errorf("no cluster to talk to: %w; set KUBECONFIG, or choose a context with `kubectl config use-context`", err)
	}
	if c.context == "" {
		c.context = "(in-cluster)"
	}
	c.rest.UserAgent, c.rest.QPS, c.rest.Burst = Manager, requests, burst
	c.rest.WarningHandler = warningHandler{c}
	if c.client, err = kubernetes.NewForConfig(c.rest); err != nil {
		return nil, fmt.Errorf("use context %s: %w", c.context, err)
	}
	if c.objects, err = dynamic.NewForConfig(c.rest); err != nil {
		return nil, fmt.Errorf("use context %s: %w", c.context, err)
	}
	c.mapper = restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(c.client.Discovery()))
	ns, err := c.client.CoreV1().Namespaces().Get(ctx, c.namespace, metav1.GetOptions{})
	if config.New && apierrors.IsNotFound(err) {
		return c, nil
	}
	return c, marked(c.context, c.namespace, ns, err)
}

// Where names the place that is changed, for whoever is told of a change.
func (c *Cluster) Where() string {
	return fmt.Sprintf("namespace %s of context %s", c.namespace, c.context)
}

// Namespace is where the mesh is.
func (c *Cluster) Namespace() string { return c.namespace }

// Warnings are what the API server warned of since the last call, each once.
func (c *Cluster) Warnings() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := c.warnings
	c.warnings = nil
	return out
}

// contextFlag is the context as kubectl takes it.
func contextFlag(context string) string {
	if context == "" || context == "(in-cluster)" || os.Getenv("KUBERNETES_SERVICE_HOST") != "" {
		return ""
	}
	return " --context " + context
}

// warningHandler keeps what the API server warns of.
type warningHandler struct{ *Cluster }

// HandleWarningHeader implements rest.WarningHandler.
func (w warningHandler) HandleWarningHeader(code int, _ string, text string) {
	if code != 299 || text == "" { // the only code that Kubernetes gives a meaning
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, known := range w.warnings {
		if known == text {
			return
		}
	}
	w.warnings = append(w.warnings, text)
}

// Context is the name of the context of the kubeconfig.
func (c *Cluster) Context() string { return c.context }
