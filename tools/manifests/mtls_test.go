package manifests

import (
	"fmt"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// With mtls every service of the mesh has a certificate for its own name and for
// both ends of a connection, reads the Secret that it is in, and is probed without
// TLS. What is no service of the mesh has none.
func TestEveryServiceHasItsOwnCertificate(t *testing.T) {
	for _, overlay := range overlays {
		objects := read(t, Combination{overlay, []string{"mtls", namespace}})
		certificates := map[string]*unstructured.Unstructured{} // by Secret
		for _, custom := range objects.Custom {
			if secret := ofCertificate(custom); secret != "" {
				certificates[secret] = custom
			}
		}
		services := 0
		for _, w := range workloads(objects) {
			c := w.pod.Spec.Containers[0]
			secret := ""
			for _, v := range w.pod.Spec.Volumes {
				if v.Secret != nil {
					secret = v.Secret.SecretName
				}
			}
			if w.kind != "Deployment" || w.namespace != "spillway" || w.name == "conductor" {
				if secret != "" || environment(c)["SPILLWAY_TLS_DIR"] != "" {
					t.Errorf("%s: %s has a certificate", overlay, w)
				}
				continue
			}
			services++
			certificate := certificates[secret]
			if certificate == nil {
				t.Errorf("%s: %s reads Secret %q, which no Certificate fills", overlay, w, secret)
				continue
			}
			delete(certificates, secret)
			names, _, _ := unstructured.NestedStringSlice(certificate.Object, "spec", "dnsNames")
			usages, _, _ := unstructured.NestedStringSlice(certificate.Object, "spec", "usages")
			if !slices.Equal(names, []string{w.name}) || !slices.Contains(usages, "server auth") || !slices.Contains(usages, "client auth") {
				t.Errorf("%s: the certificate of %s is for %q and %q", overlay, w, names, usages)
			}
			dir := environment(c)["SPILLWAY_TLS_DIR"]
			if !slices.ContainsFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool { return m.Name == "tls" && m.MountPath == dir && m.ReadOnly }) {
				t.Errorf("%s: %s looks for its certificate in %q, where none is mounted", overlay, w, dir)
			}
			for probe, want := range map[*corev1.Probe]string{
				c.StartupProbe: "/healthz every 1 s, 30 times", c.ReadinessProbe: "/healthz every 2 s, 2 times", c.LivenessProbe: "/livez every 10 s, 3 times",
			} {
				if probe.GRPC != nil || probe.HTTPGet == nil || probe.HTTPGet.Port.StrVal != "admin" {
					t.Errorf("%s: %s is probed by %+v", overlay, w, probe.ProbeHandler)
					continue
				}
				if got := fmt.Sprintf("%s every %d s, %d times", probe.HTTPGet.Path, probe.PeriodSeconds, probe.FailureThreshold); got != want {
					t.Errorf("%s: %s is probed by %s, want %s", overlay, w, got, want)
				}
			}
		}
		if services != 8 || len(certificates) != 1 || certificates["mesh-authority"] == nil {
			t.Errorf("%s: %d services with a certificate, and of nobody %v", overlay, services, certificates)
		}
		for _, s := range each[*corev1.Service](objects) {
			for _, p := range s.Spec.Ports {
				if s.Namespace == "spillway" && p.Name == "grpc" && s.Name != "gateway" && (p.AppProtocol == nil || *p.AppProtocol != "https") {
					t.Errorf("%s: port grpc of Service %s does not say that it is TLS", overlay, s.Name)
				}
			}
		}
	}
}
