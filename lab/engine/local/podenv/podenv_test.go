package podenv

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// The cases follow the description of $(NAME) in the Kubernetes API reference
// and what the kubelet does with its corners.
func TestExpand(t *testing.T) {
	values := map[string]string{"A": "one", "B": "two", "EMPTY": "", "NESTED": "$(A)", "A.B": "dotted"}
	for _, test := range []struct{ text, want string }{
		{"", ""},
		{"plain", "plain"},
		{"$(A)", "one"},
		{"-$(A)-$(B)-", "-one-two-"},
		{"$(A)$(B)", "onetwo"},
		{"$(EMPTY)", ""},
		{"$(UNKNOWN)", "$(UNKNOWN)"},
		{"$$(A)", "$(A)"},
		{"$$$(A)", "$one"},
		{"$$$$(A)", "$$(A)"},
		{"$$", "$"},
		{"$$$", "$$"},
		{"$", "$"},
		{"a$", "a$"},
		{"$A", "$A"},
		{"${A}", "${A}"},
		{"$(A", "$(A"},
		{"$(A$(B)", "$(A$(B)"},
		{"$)A(", "$)A("},
		{"$()", "$()"},
		{"$(NESTED)", "$(A)"},
		{"$(A.B)", "dotted"},
		{"100 $ $(A)", "100 $ one"},
	} {
		got := Expand(test.text, func(name string) (string, bool) { v, ok := values[name]; return v, ok })
		if got != test.want {
			t.Errorf("Expand(%q) = %q, want %q", test.text, got, test.want)
		}
	}
}

func fieldRef(path string) *corev1.EnvVarSource {
	return &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: path}}
}

func keyRef(name, key string, optional *bool) *corev1.EnvVarSource {
	return &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: name}, Key: key, Optional: optional}}
}

func mapRef(name, prefix string, optional *bool) corev1.EnvFromSource {
	return corev1.EnvFromSource{Prefix: prefix, ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: name}, Optional: optional}}
}

var source = Source{
	Pod: Pod{
		Name: "echo-1", Namespace: "default", IP: "127.0.0.1", Node: "localhost", ServiceAccount: "echo",
		Labels: map[string]string{"app": "echo"}, Annotations: map[string]string{"note": "x"},
	},
	ConfigMaps: map[string]*corev1.ConfigMap{"m": {Data: map[string]string{"key": "value", "A": "from the map"}}},
	Offered:    map[string]string{"PORT_GRPC": "12345", "A": "offered"},
}

func TestContainer(t *testing.T) {
	yes := true
	for _, test := range []struct {
		name string
		in   corev1.Container
		want []string
	}{
		{"fields", corev1.Container{Env: []corev1.EnvVar{
			{Name: "N", ValueFrom: fieldRef("metadata.name")}, {Name: "L", ValueFrom: fieldRef("metadata.labels['app']")},
			{Name: "I", ValueFrom: fieldRef("status.podIP")}, {Name: "S", ValueFrom: fieldRef("spec.serviceAccountName")},
			{Name: "NONE", ValueFrom: fieldRef("metadata.labels['none']")}, {Name: "T", ValueFrom: fieldRef("metadata.annotations['note']")},
		}}, []string{"I=127.0.0.1", "L=echo", "N=echo-1", "NONE=", "S=echo", "T=x"}},
		{"what is offered can be named and is not handed on", corev1.Container{Env: []corev1.EnvVar{{Name: "ADDR", Value: ":$(PORT_GRPC)"}}}, []string{"ADDR=:12345"}},
		{"an entry sees those before it only", corev1.Container{Env: []corev1.EnvVar{
			{Name: "X", Value: "$(Y)"}, {Name: "Y", Value: "y"}, {Name: "Z", Value: "$(Y)"},
		}}, []string{"X=$(Y)", "Y=y", "Z=y"}},
		{"an entry goes before what is offered", corev1.Container{Env: []corev1.EnvVar{{Name: "A", Value: "own"}, {Name: "B", Value: "$(A)"}}}, []string{"A=own", "B=own"}},
		{"the last of a name wins", corev1.Container{Env: []corev1.EnvVar{{Name: "X", Value: "1"}, {Name: "X", Value: "$(X)2"}}}, []string{"X=12"}},
		{"a value from elsewhere is expanded where it is named", corev1.Container{Env: []corev1.EnvVar{
			{Name: "K", ValueFrom: keyRef("m", "key", nil)}, {Name: "X", Value: "<$(K)>"},
		}}, []string{"K=value", "X=<value>"}},
		{"a missing optional key defines nothing", corev1.Container{Env: []corev1.EnvVar{
			{Name: "K", ValueFrom: keyRef("m", "none", &yes)}, {Name: "X", Value: "$(K)"},
		}}, []string{"X=$(K)"}},
		{"envFrom is not seen by env", corev1.Container{
			EnvFrom: []corev1.EnvFromSource{mapRef("m", "P_", nil), mapRef("none", "", &yes)},
			Env:     []corev1.EnvVar{{Name: "X", Value: "$(P_key)"}},
		}, []string{"P_A=from the map", "P_key=value", "X=$(P_key)"}},
		{"env goes before envFrom", corev1.Container{
			EnvFrom: []corev1.EnvFromSource{mapRef("m", "", nil)}, Env: []corev1.EnvVar{{Name: "A", Value: "own"}},
		}, []string{"A=own", "key=value"}},
	} {
		got, _, err := Container(test.in, source)
		if err != nil || !slices.Equal(got, test.want) {
			t.Errorf("%s: %q, %v; want %q", test.name, got, err, test.want)
		}
	}
}

func TestArgumentsSeeTheWholeEnvironment(t *testing.T) {
	_, got, err := Container(corev1.Container{
		EnvFrom: []corev1.EnvFromSource{mapRef("m", "", nil)}, Args: []string{"-k=$(key)", "$$(key)", "$(PORT_GRPC)"},
	}, source)
	if want := []string{"-k=value", "$(key)", "$(PORT_GRPC)"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("args %q, %v; want %q", got, err, want)
	}
}

func TestContainerErrors(t *testing.T) {
	for _, test := range []struct {
		env  corev1.EnvVar
		want string
	}{
		{corev1.EnvVar{Name: "X", ValueFrom: keyRef("m", "none", nil)}, `no key "none" in ConfigMap m`},
		{corev1.EnvVar{Name: "X", ValueFrom: keyRef("none", "key", nil)}, `ConfigMap none`},
		{corev1.EnvVar{Name: "X", ValueFrom: fieldRef("status.startTime")}, `status.startTime`},
		{corev1.EnvVar{Name: "X", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{}}}, "fieldRef and configMapKeyRef only"},
	} {
		_, _, err := Container(corev1.Container{Name: "service", Env: []corev1.EnvVar{test.env}}, source)
		if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), "environment variable X of container service") {
			t.Errorf("error %v, want one that says %q", err, test.want)
		}
	}
	if _, _, err := Container(corev1.Container{EnvFrom: []corev1.EnvFromSource{mapRef("none", "", nil)}}, source); err == nil {
		t.Error("envFrom of a missing ConfigMap is no error")
	}
}

// The variables that tell of Services come last in everything.
func TestLinks(t *testing.T) {
	s := source
	s.Links = map[string]string{"ECHO_SERVICE_HOST": "127.0.0.1", "ECHO_SERVICE_PORT": "9", "SET": "by a link"}
	env, args, err := Container(corev1.Container{
		Env:  []corev1.EnvVar{{Name: "TARGET", Value: "$(ECHO_SERVICE_HOST):$(ECHO_SERVICE_PORT)"}, {Name: "SET", Value: "by the manifest"}},
		Args: []string{"$(ECHO_SERVICE_PORT)"},
	}, s)
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"ECHO_SERVICE_HOST=127.0.0.1", "ECHO_SERVICE_PORT=9", "SET=by the manifest", "TARGET=127.0.0.1:9"}; !slices.Equal(env, want) {
		t.Errorf("environment %q, want %q", env, want)
	}
	if !slices.Equal(args, []string{"9"}) {
		t.Errorf("arguments %q", args)
	}
}
