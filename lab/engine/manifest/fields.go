package manifest

import (
	"maps"
	"slices"
	"strings"
)

// rule is the fate of a field: acted on when why is empty. It holds for
// everything below its path. [] stands for any item of a list.
type rule struct{ path, why string }

// The kinds and fields that the local engine acts on, and for those that it
// knowingly does not, why. A field that no rule covers is reported as well.
const (
	whyUser    = "a process runs as the user who started the engine"
	whyAccount = "there is no API server to have an account at"
	whyClaim   = "a claim is a directory of the state directory"
	whyProbe   = "a failed probe ends the container within the pod's own grace period"
	whyNodes   = "modelled nodes are alike, and filled one after another"
	whyUnknown = "the local engine does not act on it"
	whyKind    = "the local engine does not know "
)

var rules = map[string][]rule{
	"Deployment": append(probeRules(), []rule{
		{"metadata.name", ""}, {"metadata.labels", ""}, {"metadata.annotations", ""}, {"metadata.namespace", ""},
		{"spec.replicas", ""},
		{"spec.selector.matchLabels", ""}, {"spec.selector.matchExpressions", ""},
		{"spec.strategy.type", ""}, {"spec.strategy.rollingUpdate.maxSurge", ""}, {"spec.strategy.rollingUpdate.maxUnavailable", ""},
		{"spec.minReadySeconds", ""},
		{"spec.revisionHistoryLimit", "the engine keeps no old revisions to go back to"},
		{"spec.template.metadata.labels", ""}, {"spec.template.metadata.annotations", ""},
		{"spec.template.spec.terminationGracePeriodSeconds", ""},
		{"spec.template.spec.restartPolicy", ""},
		{"spec.template.spec.serviceAccountName", whyAccount},
		{"spec.template.spec.automountServiceAccountToken", whyAccount},
		{"spec.template.spec.enableServiceLinks", ""},
		{"spec.template.spec.securityContext", whyUser},
		{"spec.template.spec.topologySpreadConstraints", whyNodes},
		{"spec.template.spec.affinity", whyNodes},
		{"spec.template.spec.volumes[].name", ""},
		{"spec.template.spec.volumes[].configMap.name", ""},
		{"spec.template.spec.volumes[].emptyDir", ""},
		{"spec.template.spec.volumes[].persistentVolumeClaim.claimName", ""},
		{"spec.template.spec.containers[].name", ""},
		{"spec.template.spec.containers[].image", ""},
		{"spec.template.spec.containers[].imagePullPolicy", "the image is a program in bin/"},
		{"spec.template.spec.containers[].args", ""},
		{"spec.template.spec.containers[].env[].name", ""},
		{"spec.template.spec.containers[].env[].value", ""},
		{"spec.template.spec.containers[].env[].valueFrom.fieldRef", ""},
		{"spec.template.spec.containers[].env[].valueFrom.configMapKeyRef", ""},
		{"spec.template.spec.containers[].envFrom[].prefix", ""},
		{"spec.template.spec.containers[].envFrom[].configMapRef", ""},
		{"spec.template.spec.containers[].ports[].name", ""},
		{"spec.template.spec.containers[].ports[].containerPort", ""},
		{"spec.template.spec.containers[].ports[].protocol", ""},
		{"spec.template.spec.containers[].volumeMounts", "nothing is mounted; $(VOLUME_<NAME>) is the volume's directory"},
		{"spec.template.spec.containers[].lifecycle.preStop.sleep.seconds", ""},
		{"spec.template.spec.containers[].securityContext", whyUser},
		{"spec.template.spec.containers[].resources.requests.cpu", ""},
		{"spec.template.spec.containers[].resources.requests", "a modelled node runs out of CPU only"},
		{"spec.template.spec.containers[].resources.limits", "no cgroup holds a process; a replica's capacity is modelled"},
	}...),
	"Service": {
		{"metadata.name", ""}, {"metadata.labels", ""}, {"metadata.annotations", ""}, {"metadata.namespace", ""},
		{"spec.selector", ""}, {"spec.type", ""},
		{"spec.ports[].name", ""}, {"spec.ports[].port", ""}, {"spec.ports[].targetPort", ""}, {"spec.ports[].protocol", ""},
		{"spec.ports[].appProtocol", "no proxy on this machine reads it"},
	},
	"ConfigMap": {
		{"metadata.name", ""}, {"metadata.labels", ""}, {"metadata.annotations", ""}, {"metadata.namespace", ""}, {"data", ""},
	},
	"PersistentVolumeClaim": {
		{"metadata.name", ""}, {"metadata.labels", ""}, {"metadata.annotations", ""}, {"metadata.namespace", ""},
		{"spec", whyClaim},
	},
	// The autoscaler is Kubernetes' own controller: it acts on all that its type has.
	"HorizontalPodAutoscaler": {
		{"metadata.name", ""}, {"metadata.labels", ""}, {"metadata.annotations", ""}, {"metadata.namespace", ""},
		{"spec", ""},
	},
}

// probeRules are the same wherever a probe stands.
func probeRules() []rule {
	var all []rule
	for _, probe := range []string{"startupProbe", "readinessProbe", "livenessProbe"} {
		path := "spec.template.spec.containers[]." + probe + "."
		for _, field := range []string{
			"grpc", "tcpSocket.port", "httpGet.path", "httpGet.port",
			"initialDelaySeconds", "periodSeconds", "timeoutSeconds", "successThreshold", "failureThreshold",
		} {
			all = append(all, rule{path + field, ""})
		}
		all = append(all, rule{path + "terminationGracePeriodSeconds", whyProbe})
	}
	return all
}

// idleKinds are read, strictly, and have nothing to do on one machine.
var idleKinds = map[string]string{
	"ServiceAccount":      whyAccount,
	"PodDisruptionBudget": "a modelled node that is taken back asks nobody",
}

// ignoredSet gathers who says the same ignored thing.
type ignoredSet map[[2]string][]string

func (s ignoredSet) add(what, why, object string) {
	key := [2]string{what, why}
	if !slices.Contains(s[key], object) {
		s[key] = append(s[key], object)
	}
}

func (s ignoredSet) list() []Ignored {
	var all []Ignored
	for _, key := range slices.SortedFunc(maps.Keys(s), func(a, b [2]string) int { return slices.Compare(a[:], b[:]) }) {
		all = append(all, Ignored{
			What: key[0], Why: key[1], Objects: slices.Sorted(slices.Values(s[key])),
			Expected: key[1] != whyUnknown && !strings.HasPrefix(key[1], whyKind),
		})
	}
	return all
}

// fields reports the fields of one object that the engine does not act on.
func (s ignoredSet) fields(kind, name string, fields map[string]any) {
	if why, idle := idleKinds[kind]; idle {
		s.add(kind, why, name)
		return
	}
	var walk func(path string, value any)
	walk = func(path string, value any) {
		if path == "apiVersion" || path == "kind" {
			return
		}
		if r, ok := ruleFor(kind, path); ok {
			if r.why != "" {
				s.add(kind+" "+r.path, r.why, name)
			}
			return
		}
		switch value := value.(type) {
		case map[string]any:
			if len(value) > 0 {
				for key, v := range value {
					walk(strings.TrimPrefix(path+"."+key, "."), v)
				}
				return
			}
		case []any:
			if len(value) > 0 {
				for _, v := range value {
					walk(path+"[]", v)
				}
				return
			}
		}
		s.add(kind+" "+path, whyUnknown, name)
	}
	walk("", fields)
}

// ruleFor finds the rule that decides path as a whole: the path's own, unless
// another one says more about a part of it, or one of what holds it. A rule for
// something below it decides nothing yet.
func ruleFor(kind, path string) (rule, bool) {
	for _, r := range rules[kind] {
		if r.path == path && !slices.ContainsFunc(rules[kind], func(below rule) bool { return strings.HasPrefix(below.path, path+".") }) {
			return r, true
		}
	}
	for _, r := range rules[kind] {
		if strings.HasPrefix(path, r.path+".") || strings.HasPrefix(path, r.path+"[]") {
			return r, true
		}
	}
	return rule{}, false
}
