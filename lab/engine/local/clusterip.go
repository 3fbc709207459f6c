package local

import (
	"errors"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"spillway.dev/lab/engine/local/frontdoor"
	"spillway.dev/lab/engine/manifest"
)

// servicePort names a port of a Service.
type servicePort struct{ service, port string }

// hasLinks tells whether a pod is told of Services by its environment. As in
// Kubernetes it is unless it says otherwise.
func hasLinks(t *corev1.PodSpec) bool { return t.EnableServiceLinks == nil || *t.EnableServiceLinks }

// openClusterIPs gives every port of every Service an address within the mesh, once
// there is a Deployment whose pods are told of it. They stay open until the mesh
// stops: pods keep what they were told. Engine.mu is held.
func (e *Engine) openClusterIPs() {
	linked := false
	for _, d := range e.manifests.Deployments {
		linked = linked || hasLinks(&d.Spec.Template.Spec)
	}
	if !linked {
		return
	}
	for _, s := range e.manifests.Services {
		for _, p := range s.Spec.Ports {
			at := servicePort{s.Name, p.Name}
			if e.clusterIPs[at] != nil || s.Spec.ClusterIP == corev1.ClusterIPNone {
				continue
			}
			lis, err := e.listen()
			if err != nil {
				e.events.post(Event{Kind: EventManifestError, Text: "Service " + s.Name + " has no ClusterIP: " + err.Error()})
				continue
			}
			e.clusterIPs[at] = frontdoor.New(lis)
		}
	}
}

// links are the variables by which Kubernetes tells a pod of Services: NAME_SERVICE_HOST,
// NAME_SERVICE_PORT for the first port, and NAME_SERVICE_PORT_PORTNAME. The older ones,
// made for Docker's links, are left out. Engine.mu is held.
// https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
func (e *Engine) links(t *corev1.PodSpec) map[string]string {
	links := map[string]string{}
	if !hasLinks(t) {
		return links
	}
	for _, s := range e.manifests.Services {
		for i, p := range s.Spec.Ports {
			proxy := e.clusterIPs[servicePort{s.Name, p.Name}]
			if proxy == nil {
				continue
			}
			address, port, _ := strings.Cut(proxy.Addr(), ":") // of IP version 4
			name := manifest.LinkName(s.Name)
			if i == 0 {
				links[name+"_SERVICE_HOST"], links[name+"_SERVICE_PORT"] = address, port
			}
			if p.Name != "" {
				links[name+"_SERVICE_PORT_"+manifest.LinkName(p.Name)] = port
			}
		}
	}
	return links
}

// renewClusterIPs has new connections go to who is ready now. Engine.mu is held.
func (e *Engine) renewClusterIPs() {
	if len(e.clusterIPs) == 0 {
		return
	}
	found := map[servicePort]bool{}
	for _, s := range e.manifests.Services {
		for _, p := range s.Spec.Ports {
			at := servicePort{s.Name, p.Name}
			if proxy := e.clusterIPs[at]; proxy != nil {
				proxy.Set(ready(e.endpoints(s, p)))
				found[at] = true
			}
		}
	}
	for at, proxy := range e.clusterIPs {
		if !found[at] {
			proxy.Set(nil)
		}
	}
}

func (e *Engine) closeClusterIPs() error {
	var errs []error
	for _, proxy := range e.clusterIPs {
		errs = append(errs, proxy.Close())
	}
	return errors.Join(errs...)
}
