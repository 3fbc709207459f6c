package manifests

import (
	"fmt"
	"regexp"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
)

// pinned is an image with a version that is not just a major one.
var pinned = regexp.MustCompile(`^[a-z0-9./_-]+:v?\d+\.\d+[a-z0-9.+_-]*$`)

// asRoot are pods that need more than the rest, each with the reason.
var asRoot = map[string]string{
	"log-collector": "the files of a node's containers are root's",
}

// complaints are what is wrong with the objects of one rendering, whatever was
// combined in it.
func complaints(objects Objects) []string {
	var all []string
	complain := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) }
	for _, w := range workloads(objects) {
		all = append(all, hardening(w)...)
		all = append(all, running(w)...)
	}
	all = append(all, references(objects)...)
	all = append(all, selections(objects)...)
	scaled := map[string]string{}
	for _, h := range each[*autoscalingv2.HorizontalPodAutoscaler](objects) {
		target := h.Namespace + "/" + h.Spec.ScaleTargetRef.Name
		if other := scaled[target]; other != "" {
			complain("HorizontalPodAutoscalers %s and %s scale the same Deployment", h.Name, other)
		}
		scaled[target] = h.Name
	}
	return all
}

// hardening is what Pod Security's profile restricted asks for, and a root file
// system that is only read.
func hardening(w workload) []string {
	if asRoot[w.name] != "" {
		return nil
	}
	var all []string
	complain := func(format string, args ...any) {
		all = append(all, fmt.Sprintf("%s: ", w)+fmt.Sprintf(format, args...))
	}
	pod := w.pod.Spec
	if s := pod.SecurityContext; s == nil || s.RunAsNonRoot == nil || !*s.RunAsNonRoot || s.RunAsUser == nil || *s.RunAsUser == 0 {
		complain("it may run as root")
	} else if s.SeccompProfile == nil || s.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
		complain("it has no seccomp profile")
	}
	if pod.HostNetwork || pod.HostPID || pod.HostIPC {
		complain("it shares a namespace with its node")
	}
	for _, v := range pod.Volumes {
		if v.HostPath != nil {
			complain("volume %s is a directory of its node", v.Name)
		}
	}
	for _, c := range w.containers() {
		s := c.SecurityContext
		if s == nil {
			complain("container %s has no securityContext", c.Name)
			continue
		}
		if s.AllowPrivilegeEscalation == nil || *s.AllowPrivilegeEscalation {
			complain("container %s may gain privileges", c.Name)
		}
		if s.ReadOnlyRootFilesystem == nil || !*s.ReadOnlyRootFilesystem {
			complain("container %s may write to its root file system", c.Name)
		}
		if s.Capabilities == nil || !slices.Contains(s.Capabilities.Drop, "ALL") || len(s.Capabilities.Add) > 0 {
			complain("container %s keeps capabilities", c.Name)
		}
		if s.RunAsUser != nil && *s.RunAsUser == 0 || s.RunAsNonRoot != nil && !*s.RunAsNonRoot {
			complain("container %s may run as root", c.Name)
		}
	}
	return all
}

// running is what a workload needs to be scheduled, watched and ended well.
func running(w workload) []string {
	var all []string
	complain := func(format string, args ...any) {
		all = append(all, fmt.Sprintf("%s: ", w)+fmt.Sprintf(format, args...))
	}
	if w.selector != nil {
		selector, err := metav1.LabelSelectorAsSelector(w.selector)
		if err != nil || selector.Empty() || !selector.Matches(labels.Set(w.pod.Labels)) {
			complain("its selector does not select its own pods")
		}
	}
	if w.kind == "Deployment" && w.replicas > 1 && w.namespace == "spillway" && w.name != "room" &&
		len(w.pod.Spec.TopologySpreadConstraints) == 0 && w.name != "prometheus-adapter" {
		complain("nothing keeps its %d replicas apart", w.replicas)
	}
	for _, c := range w.pod.Spec.TopologySpreadConstraints {
		selector, err := metav1.LabelSelectorAsSelector(c.LabelSelector)
		if c.MaxSkew < 1 || err != nil || !selector.Matches(labels.Set(w.pod.Labels)) {
			complain("its replicas are spread over %s (%s) by a constraint that lacks its skew or does not select them", c.TopologyKey, c.WhenUnsatisfiable)
		}
	}
	if w.pod.Spec.ServiceAccountName == "" {
		complain("it runs as its namespace's default account")
	}
	if w.pod.Spec.AutomountServiceAccountToken == nil {
		complain("it does not say whether it wants a token")
	}
	grace := int64(30)
	if g := w.pod.Spec.TerminationGracePeriodSeconds; g != nil {
		grace = *g
	}
	for _, c := range w.containers() {
		for _, r := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
			request, limit := c.Resources.Requests[r], c.Resources.Limits[r]
			if request.IsZero() || limit.IsZero() || request.Cmp(limit) > 0 {
				complain("container %s: %s from %s to %s", c.Name, r, &request, &limit)
			}
		}
		if !pinned.MatchString(c.Image) {
			complain("container %s: image %q is not pinned to a version", c.Name, c.Image)
		}
		if len(c.Ports) > 0 && (c.ReadinessProbe == nil || c.LivenessProbe == nil) {
			complain("container %s listens, and is not probed for being ready and alive", c.Name)
		}
		env := environment(c)
		var last time.Duration
		for _, name := range []string{"SPILLWAY_DRAIN_DELAY", "SPILLWAY_DRAIN_TIMEOUT", "SPILLWAY_DRAIN_LAST_SCRAPE"} {
			if env[name] == "" {
				continue
			}
			d, err := time.ParseDuration(env[name])
			if err != nil {
				complain("container %s: %s: %v", c.Name, name, err)
			}
			last += d
		}
		if c.Lifecycle != nil && c.Lifecycle.PreStop != nil && c.Lifecycle.PreStop.Sleep != nil {
			last += time.Duration(c.Lifecycle.PreStop.Sleep.Seconds) * time.Second
		}
		if last > 0 && time.Duration(grace)*time.Second <= last {
			complain("container %s: preStop sleep and drain take %s of a grace period of %d s", c.Name, last, grace)
		}
	}
	return all
}

// references are names that lead nowhere. What is in a namespace that the rendering
// does not make may be there already.
func references(objects Objects) []string {
	var all []string
	complain := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) }
	there := map[string]bool{}
	made := map[string]bool{}
	note := func(kind string, o metav1.Object) { there[kind+" "+o.GetNamespace()+"/"+o.GetName()] = true }
	for _, object := range objects.Typed {
		o, err := metaOf(object)
		if err != nil {
			complain("%v", err)
			continue
		}
		kind := object.GetObjectKind().GroupVersionKind().Kind
		note(kind, o)
		if kind == "Namespace" {
			made[o.GetName()] = true
		}
		if o.GetNamespace() == "" && !clusterWide[kind] {
			complain("%s %s is in no namespace", kind, o.GetName())
		}
	}
	for _, custom := range objects.Custom {
		if custom.GetNamespace() == "" {
			complain("%s %s is in no namespace", custom.GetKind(), custom.GetName())
		}
		note(custom.GetKind(), custom)
		if secret := ofCertificate(custom); secret != "" {
			there["Secret "+custom.GetNamespace()+"/"+secret] = true
		}
	}
	needs := func(who, kind, namespace, name string) {
		if made[namespace] && !there[kind+" "+namespace+"/"+name] {
			complain("%s: there is no %s %s/%s", who, kind, namespace, name)
		}
	}
	for _, w := range workloads(objects) {
		for _, name := range configMaps(w.pod.Spec) {
			needs(w.String(), "ConfigMap", w.namespace, name)
		}
		needs(w.String(), "ServiceAccount", w.namespace, w.pod.Spec.ServiceAccountName)
		if class := w.pod.Spec.PriorityClassName; class != "" && !there["PriorityClass /"+class] {
			complain("%s: there is no PriorityClass %s", w, class)
		}
		volumes := slices.Clone(w.claims)
		for _, v := range w.pod.Spec.Volumes {
			volumes = append(volumes, v.Name)
			if v.PersistentVolumeClaim != nil {
				needs(w.String(), "PersistentVolumeClaim", w.namespace, v.PersistentVolumeClaim.ClaimName)
			}
			if v.Secret != nil {
				needs(w.String(), "Secret", w.namespace, v.Secret.SecretName)
			}
		}
		for _, c := range w.containers() {
			for _, m := range c.VolumeMounts {
				if !slices.Contains(volumes, m.Name) {
					complain("%s: container %s mounts %s, which is no volume", w, c.Name, m.Name)
				}
			}
			for _, host := range hosts(c) {
				needs(w.String(), "Service", w.namespace, host)
			}
		}
	}
	for _, s := range each[*appsv1.StatefulSet](objects) {
		needs("StatefulSet "+s.Name, "Service", s.Namespace, s.Spec.ServiceName)
	}
	for _, h := range each[*autoscalingv2.HorizontalPodAutoscaler](objects) {
		needs("HorizontalPodAutoscaler "+h.Name, h.Spec.ScaleTargetRef.Kind, h.Namespace, h.Spec.ScaleTargetRef.Name)
	}
	for _, custom := range objects.Custom {
		if issuer, found, _ := unstructured.NestedString(custom.Object, "spec", "issuerRef", "name"); found {
			needs("Certificate "+custom.GetName(), "Issuer", custom.GetNamespace(), issuer)
		}
		if secret, found, _ := unstructured.NestedString(custom.Object, "spec", "ca", "secretName"); found {
			needs("Issuer "+custom.GetName(), "Secret", custom.GetNamespace(), secret)
		}
		if ref, ok := custom.Object["spec"].(map[string]any)["scaleTargetRef"].(map[string]any); ok {
			needs("ScaledObject "+custom.GetName(), fmt.Sprint(ref["kind"]), custom.GetNamespace(), fmt.Sprint(ref["name"]))
		}
	}
	subjects := func(who string, list []rbacv1.Subject) {
		for _, s := range list {
			if s.Kind == "ServiceAccount" {
				needs(who, "ServiceAccount", s.Namespace, s.Name)
			}
		}
	}
	for _, b := range each[*rbacv1.RoleBinding](objects) {
		subjects("RoleBinding "+b.Name, b.Subjects)
		if b.RoleRef.Kind == "Role" {
			needs("RoleBinding "+b.Name, "Role", b.Namespace, b.RoleRef.Name)
		}
	}
	for _, b := range each[*rbacv1.ClusterRoleBinding](objects) {
		subjects("ClusterRoleBinding "+b.Name, b.Subjects)
		if !regexp.MustCompile(`^system:`).MatchString(b.RoleRef.Name) && !there["ClusterRole /"+b.RoleRef.Name] {
			complain("ClusterRoleBinding %s: there is no ClusterRole %s", b.Name, b.RoleRef.Name)
		}
	}
	for _, a := range each[*apiregistrationv1.APIService](objects) {
		needs("APIService "+a.Name, "Service", a.Spec.Service.Namespace, a.Spec.Service.Name)
	}
	return all
}

// ofCertificate is the name of the Secret that cert-manager makes of a Certificate;
// of another object there is none.
func ofCertificate(custom *unstructured.Unstructured) string {
	if custom.GetKind() != "Certificate" {
		return ""
	}
	name, _, _ := unstructured.NestedString(custom.Object, "spec", "secretName") // of another type its schema refuses it
	return name
}

// selections are Services and PodDisruptionBudgets that select nothing, and ports
// that no container has.
func selections(objects Objects) []string {
	var all []string
	complain := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) }
	chosen := func(namespace string, s labels.Selector) (found []workload) {
		for _, w := range workloads(objects) {
			if w.namespace == namespace && s.Matches(labels.Set(w.pod.Labels)) {
				found = append(found, w)
			}
		}
		return found
	}
	for _, s := range each[*corev1.Service](objects) {
		if s.Spec.Selector == nil {
			continue
		}
		found := chosen(s.Namespace, labels.SelectorFromSet(s.Spec.Selector))
		if len(found) != 1 {
			complain("Service %s/%s selects the pods of %v, not of one workload", s.Namespace, s.Name, found)
			continue
		}
		for _, p := range s.Spec.Ports {
			if !slices.ContainsFunc(found[0].pod.Spec.Containers, func(c corev1.Container) bool { return listens(c, p) }) {
				complain("Service %s/%s: no container listens on port %s (%s)", s.Namespace, s.Name, p.Name, p.TargetPort.String())
			}
		}
	}
	for _, b := range each[*policyv1.PodDisruptionBudget](objects) {
		selector, err := metav1.LabelSelectorAsSelector(b.Spec.Selector)
		if err != nil {
			complain("PodDisruptionBudget %s: %v", b.Name, err)
		} else if found := chosen(b.Namespace, selector); len(found) != 1 {
			complain("PodDisruptionBudget %s/%s selects the pods of %v, not of one workload", b.Namespace, b.Name, found)
		}
	}
	return all
}

func listens(c corev1.Container, port corev1.ServicePort) bool {
	return slices.ContainsFunc(c.Ports, func(p corev1.ContainerPort) bool {
		if port.TargetPort.Type == intstr.String {
			return p.Name == port.TargetPort.StrVal
		}
		return p.ContainerPort == port.TargetPort.IntVal || port.TargetPort.IntVal == 0 && p.ContainerPort == port.Port
	})
}
