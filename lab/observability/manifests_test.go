package observability

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	yamlutil "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"

	"spillway.dev/lab/engine/manifest"
	"spillway.dev/lab/metrics/kubestate"
)

// set is the objects of a rendered kustomization.
type set struct {
	names      map[string]bool // Kind/name of everything
	workloads  map[string]corev1.PodTemplateSpec
	services   []corev1.Service
	configMaps map[string]corev1.ConfigMap
	rules      map[string][]rbacv1.PolicyRule
}

func render(t *testing.T, name string) set {
	t.Helper()
	text, err := manifest.Render(observabilityDir + "/" + name)
	if err != nil {
		t.Fatal(err)
	}
	s := set{
		names: map[string]bool{}, workloads: map[string]corev1.PodTemplateSpec{},
		configMaps: map[string]corev1.ConfigMap{}, rules: map[string][]rbacv1.PolicyRule{},
	}
	docs := yamlutil.NewYAMLReader(bufio.NewReader(bytes.NewReader(text)))
	for {
		doc, err := docs.Read()
		if errors.Is(err, io.EOF) {
			return s
		}
		if err != nil {
			t.Fatal(err)
		}
		var what struct {
			metav1.TypeMeta `json:",inline"`
			Metadata        metav1.ObjectMeta `json:"metadata"`
		}
		if err := yaml.Unmarshal(doc, &what); err != nil {
			t.Fatal(err)
		}
		id := what.Kind + "/" + what.Metadata.Name
		s.names[id] = true
		strict := func(into any) {
			if err := yaml.UnmarshalStrict(doc, into); err != nil {
				t.Errorf("%s: %v", id, err)
			}
		}
		switch what.Kind {
		case "Deployment":
			var d appsv1.Deployment
			strict(&d)
			s.workloads[d.Name] = d.Spec.Template
		case "DaemonSet":
			var d appsv1.DaemonSet
			strict(&d)
			s.workloads[d.Name] = d.Spec.Template
		case "Service":
			var service corev1.Service
			strict(&service)
			s.services = append(s.services, service)
		case "ConfigMap":
			var c corev1.ConfigMap
			strict(&c)
			s.configMaps[c.Name] = c
		case "Role":
			var r rbacv1.Role
			strict(&r)
			s.rules[r.Name] = append(s.rules[r.Name], r.Rules...)
		case "ClusterRole":
			var r rbacv1.ClusterRole
			strict(&r)
			s.rules[r.Name] = append(s.rules[r.Name], r.Rules...)
		case "Namespace", "ServiceAccount", "RoleBinding", "ClusterRoleBinding", "APIService":
		default:
			t.Errorf("%s: a kind that these tests do not know", id)
		}
	}
}

var pinned = regexp.MustCompile(`^[a-z0-9./-]+:v?\d+\.\d+\.\d+$`)

func TestEveryWorkloadIsConfined(t *testing.T) {
	seen := map[string]bool{}
	for _, name := range []string{"lite", "full", "metrics-server"} {
		s := render(t, name)
		for name, pod := range s.workloads {
			seen[name] = true
			if !s.names["ServiceAccount/"+pod.Spec.ServiceAccountName] {
				t.Errorf("%s runs as %q, which is no service account of the set", name, pod.Spec.ServiceAccountName)
			}
			// Who asks the API server nothing gets no token to ask with.
			_, asks := s.rules[name]
			_, asksCluster := s.rules["spillway-"+name]
			if token := pod.Spec.AutomountServiceAccountToken; token == nil || *token != (asks || asksCluster) {
				t.Errorf("%s: automountServiceAccountToken does not fit its roles", name)
			}
			security := pod.Spec.SecurityContext
			root := security.RunAsUser != nil && *security.RunAsUser == 0
			if root != (name == "log-collector") || !root && (security.RunAsNonRoot == nil || !*security.RunAsNonRoot) {
				t.Errorf("%s runs as root, or could", name)
			}
			if security.SeccompProfile == nil || security.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
				t.Errorf("%s has no seccomp profile", name)
			}
			for _, v := range pod.Spec.Volumes {
				if v.HostPath != nil && name != "log-collector" {
					t.Errorf("%s mounts %s of its node", name, v.HostPath.Path)
				}
				if v.ConfigMap != nil && s.configMaps[v.ConfigMap.Name].Name == "" {
					t.Errorf("%s mounts ConfigMap %s, which the set does not have", name, v.ConfigMap.Name)
				}
				if v.EmptyDir != nil && v.EmptyDir.SizeLimit == nil {
					t.Errorf("%s may fill the node's disk by volume %s", name, v.Name)
				}
			}
			for _, c := range pod.Spec.Containers {
				if !pinned.MatchString(c.Image) {
					t.Errorf("%s: image %s is not pinned by a version", name, c.Image)
				}
				for what, list := range map[string]corev1.ResourceList{"requests": c.Resources.Requests, "limits": c.Resources.Limits} {
					if list.Cpu().IsZero() || list.Memory().IsZero() {
						t.Errorf("%s has no %s of CPU and memory", name, what)
					}
				}
				if c.StartupProbe == nil || c.ReadinessProbe == nil || c.LivenessProbe == nil {
					t.Errorf("%s lacks a probe", name)
				}
				in := c.SecurityContext
				if in == nil || in.ReadOnlyRootFilesystem == nil || !*in.ReadOnlyRootFilesystem ||
					in.AllowPrivilegeEscalation == nil || *in.AllowPrivilegeEscalation ||
					in.Capabilities == nil || !slices.Contains(in.Capabilities.Drop, "ALL") || len(in.Capabilities.Add) > 0 {
					t.Errorf("%s: its container may do more than it needs", name)
				}
				for _, m := range c.VolumeMounts {
					if !slices.ContainsFunc(pod.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == m.Name }) {
						t.Errorf("%s mounts %s, which is no volume", name, m.Name)
					}
					// Nobody could make the place for a mount inside a read-only one.
					for _, outer := range c.VolumeMounts {
						if strings.HasPrefix(m.MountPath, outer.MountPath+"/") {
							t.Errorf("%s mounts %s inside %s", name, m.MountPath, outer.MountPath)
						}
					}
				}
			}
		}
	}
	for _, name := range []string{
		"prometheus", "alertmanager", "jaeger", "otel-collector", "grafana", "loki", "log-collector",
		"kube-state-metrics", "metrics-server",
	} {
		if !seen[name] {
			t.Errorf("no set has %s", name)
		}
	}
}

func TestServicesLeadToPorts(t *testing.T) {
	for _, name := range []string{"full", "metrics-server"} {
		s := render(t, name)
		for _, service := range s.services {
			pod, ok := s.workloads[service.Spec.Selector["app.kubernetes.io/name"]]
			if !ok {
				t.Errorf("Service %s selects nothing", service.Name)
				continue
			}
			for _, port := range service.Spec.Ports {
				if !slices.ContainsFunc(pod.Spec.Containers[0].Ports, func(p corev1.ContainerPort) bool { return p.Name == port.TargetPort.String() }) {
					t.Errorf("Service %s leads to port %s, which the pods do not have", service.Name, port.TargetPort.String())
				}
			}
		}
	}
}

// Watching is all that observers do.
func TestRolesOnlyRead(t *testing.T) {
	for _, name := range []string{"full", "metrics-server"} {
		for role, rules := range render(t, name).rules {
			for _, rule := range rules {
				for _, verb := range rule.Verbs {
					if !slices.Contains([]string{"get", "list", "watch"}, verb) {
						t.Errorf("%s may %s", role, verb)
					}
				}
				for _, what := range rule.Resources {
					if what == "*" || what == "secrets" || what == "configmaps" {
						t.Errorf("%s may read %s", role, what)
					}
				}
			}
		}
	}
}

// A cluster tells of its objects what a local run tells, and no more.
func TestKubeStateMetricsTellsWhatALocalRunTells(t *testing.T) {
	arg := ""
	for _, a := range render(t, "lite").workloads["kube-state-metrics"].Spec.Containers[0].Args {
		if list, ok := strings.CutPrefix(a, "--metric-allowlist="); ok {
			arg = list
		}
	}
	allowed, err := regexp.Compile(arg)
	if err != nil || arg == "" {
		t.Fatalf("allow list %q: %v", arg, err)
	}
	descs := make(chan *prometheus.Desc, 100)
	kubestate.New(func() kubestate.Objects { return kubestate.Objects{} }).Describe(descs)
	close(descs)
	name := regexp.MustCompile(`fqName: "([^"]+)"`)
	n := 0
	for desc := range descs {
		n++
		if of := name.FindStringSubmatch(desc.String()); of == nil || !allowed.MatchString(of[1]) {
			t.Errorf("%v is not on the allow list", desc)
		}
	}
	if want := strings.Count(arg, "|") + 1; n != want {
		t.Errorf("a local run tells %d metrics, the allow list has %d", n, want)
	}
}

// Scrapes differ only in where targets come from.
func TestAClusterIsScrapedAsALocalRunIs(t *testing.T) {
	text, err := os.ReadFile(observabilityDir + "/prometheus/prometheus.yaml")
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile(root + "/lab/metrics/scrape.go")
	if err != nil {
		t.Fatal(err)
	}
	// The lab's configuration is a constant in its source.
	for _, line := range []string{
		"scrape_protocols: [PrometheusProto, OpenMetricsText1.0.0, PrometheusText0.0.4]",
		"scrape_native_histograms: false",
		"regex: (go|process)_.*",
		"regex: go_goroutines|go_gc_duration_seconds_(sum|count)|go_memstats_heap_inuse_bytes|process_(cpu_seconds_total|resident_memory_bytes|open_fds|start_time_seconds)",
		"honor_labels: true",
	} {
		if !bytes.Contains(text, []byte(line)) || !bytes.Contains(source, []byte(line)) {
			t.Errorf("%q is not in both prometheus.yaml and lab/metrics", line)
		}
	}
}
