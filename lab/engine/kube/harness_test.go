//go:build cluster

package kube

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"text/template"
	"time"

	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

// patience bounds each wait for a cluster.
const patience = 2 * time.Minute

// newNamespace makes a namespace of the current context's cluster that is deleted
// after the test.
func newNamespace(t *testing.T, labels map[string]string) string {
	t.Helper()
	client := plainClient(t)
	ns, err := client.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "spillway-test-", Labels: labels},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := client.CoreV1().Namespaces().Delete(context.Background(), ns.Name, metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	})
	return ns.Name
}

// shared are the connections to the API server that client-go keeps for all clients
// of a process and gives nobody a way to close.
func shared() []goleak.Option {
	return []goleak.Option{goleak.IgnoreAnyFunction("golang.org/x/net/http2.(*clientConnReadLoop).run")}
}

func plainClient(t *testing.T) kubernetes.Interface {
	t.Helper()
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(clientcmd.NewDefaultClientConfigLoadingRules(), nil).ClientConfig()
	if err != nil {
		t.Fatalf("no cluster: %v; set KUBECONFIG", err)
	}
	return kubernetes.NewForConfigOrDie(config)
}

// image is the one that the cluster runs its DNS from: every node has it.
func image(t *testing.T) string {
	t.Helper()
	pods, err := plainClient(t).CoreV1().Pods(metav1.NamespaceSystem).List(t.Context(), metav1.ListOptions{LabelSelector: "k8s-app=kube-dns"})
	if err != nil || len(pods.Items) == 0 {
		t.Fatalf("the cluster runs no CoreDNS to take an image from: %v", err)
	}
	return pods.Items[0].Spec.Containers[0].Image
}

// small is CoreDNS that answers on its health port alone.
var small = template.Must(template.New("").Parse(`
apiVersion: v1
kind: ConfigMap
metadata: {name: corefile, namespace: {{.Namespace}}}
data:
  Corefile: ".:1053 {\n health :8080\n}\n"
---
apiVersion: v1
kind: ConfigMap
metadata: {name: mesh, namespace: {{.Namespace}}}
data: {xds: "dns:///conductor:18000", redis: "small:8080", nats: "nats://absent:4222", otlp: "http://small:8080"}
{{range .Services}}---
apiVersion: v1
kind: Service
metadata: {name: {{.}}, namespace: {{$.Namespace}}}
spec:
  selector: {app: small}
  ports: [{name: http, port: 8080, targetPort: health}, {name: xds, port: 18000, targetPort: health}]
{{end}}---
apiVersion: apps/v1
kind: Deployment
metadata: {name: small, namespace: {{.Namespace}}}
spec:
  replicas: {{.Replicas}}
  selector: {matchLabels: {app: small}}
  template:
    metadata: {labels: {app: small}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
        - name: service
          image: {{.Image}}
          imagePullPolicy: IfNotPresent
          args: [-conf, /etc/coredns/Corefile]
          ports: [{name: health, containerPort: 8080}]
          readinessProbe: {httpGet: {path: /health, port: health}, periodSeconds: 1}
          volumeMounts: [{name: config, mountPath: /etc/coredns}]
      volumes: [{name: config, configMap: {name: corefile}}]
{{if .HPA}}---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: small, namespace: {{.Namespace}}}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: small}
  minReplicas: 1
  maxReplicas: 3
  metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 90}}}]
{{end}}`))

type smallMesh struct {
	Namespace, Image string
	Replicas         int
	Services         []string
	HPA              bool
}

func (s smallMesh) manifests(t *testing.T) []byte {
	t.Helper()
	var text bytes.Buffer
	if err := small.Execute(&text, s); err != nil {
		t.Fatal(err)
	}
	return text.Bytes()
}

// await waits until a condition holds.
func await(t *testing.T, what string, holds func(context.Context) (bool, error)) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(lookAgain)
	defer tick.Stop()
	for {
		ok, err := holds(ctx)
		if ok {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("waited %s for %s: %v", patience, what, err)
		}
	}
}

// lines collects what is told.
type lines []string

func (l *lines) add(text string) { *l = append(*l, text) }

func (l lines) has(part string) bool { return strings.Contains(fmt.Sprint(l), part) }
