package manifests

import (
	"slices"
	"strings"
	"testing"
)

// good is a workload of which nothing is wrong, with all that it refers to.
const good = `
apiVersion: v1
kind: Namespace
metadata: {name: spillway}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: a, namespace: spillway}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, namespace: spillway}
---
apiVersion: v1
kind: Service
metadata: {name: a, namespace: spillway}
spec:
  selector: {app: a}
  ports: [{name: grpc, port: 9000, targetPort: grpc}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: a, namespace: spillway}
spec:
  selector: {matchLabels: {app: a}}
  template:
    metadata: {labels: {app: a}}
    spec:
      serviceAccountName: a
      automountServiceAccountToken: false
      terminationGracePeriodSeconds: 30
      securityContext: {runAsNonRoot: true, runAsUser: 65532, seccompProfile: {type: RuntimeDefault}}
      containers:
        - name: service
          image: test/a:1.2.3
          env:
            - {name: SPILLWAY_DRAIN_TIMEOUT, value: 10s}
            - {name: TARGET, value: "xds:///a"}
          envFrom: [{configMapRef: {name: settings}}]
          ports: [{name: grpc, containerPort: 9000}]
          readinessProbe: {grpc: {port: 9000}}
          livenessProbe: {grpc: {port: 9000}}
          lifecycle: {preStop: {sleep: {seconds: 5}}}
          resources: {requests: {cpu: 1m, memory: 1Mi}, limits: {cpu: 2m, memory: 2Mi}}
          securityContext: {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
`

func TestComplaints(t *testing.T) {
	for _, test := range []struct{ before, after, want string }{
		{"", "", ""},
		{"runAsNonRoot: true, runAsUser: 65532", "runAsNonRoot: true, runAsUser: 0", "may run as root"},
		{", seccompProfile: {type: RuntimeDefault}", "", "no seccomp profile"},
		{"allowPrivilegeEscalation: false", "allowPrivilegeEscalation: true", "may gain privileges"},
		{"readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false", "may write to its root file system"},
		{"drop: [ALL]", "drop: [KILL]", "keeps capabilities"},
		{"drop: [ALL]", "drop: [ALL], add: [NET_ADMIN]", "keeps capabilities"},
		{", limits: {cpu: 2m, memory: 2Mi}", "", "container service: cpu from 1m to 0"},
		{"test/a:1.2.3", "test/a", "not pinned"},
		{"test/a:1.2.3", "test/a:latest", "not pinned"},
		{"test/a:1.2.3", "test/a:3", "not pinned"},
		{"terminationGracePeriodSeconds: 30", "terminationGracePeriodSeconds: 15", "take 15s of a grace period of 15 s"},
		{"          readinessProbe: {grpc: {port: 9000}}\n", "", "not probed"},
		{"serviceAccountName: a", "serviceAccountName: b", "no ServiceAccount spillway/b"},
		{"configMapRef: {name: settings}", "configMapRef: {name: none}", "no ConfigMap spillway/none"},
		{"xds:///a", "xds:///b", "no Service spillway/b"},
		{"xds:///a", "$(B_SERVICE_HOST):1", "no Service spillway/b"},
		{"selector: {app: a}", "selector: {app: b}", "Service spillway/a selects the pods of []"},
		{"targetPort: grpc", "targetPort: http", "no container listens on port grpc (http)"},
		{"metadata: {labels: {app: a}}", "metadata: {labels: {app: b}}", "does not select its own pods"},
		{"name: a, namespace: spillway}\nspec:\n  selector: {app", "name: a}\nspec:\n  selector: {app", "Service a is in no namespace"},
		{"automountServiceAccountToken: false", "topologySpreadConstraints: [{topologyKey: h, whenUnsatisfiable: DoNotSchedule}]", "lacks its skew or does not select them"},
		{"automountServiceAccountToken: false", "topologySpreadConstraints: [{topologyKey: h, maxSkew: 1, labelSelector: {matchLabels: {app: b}}}]", "lacks its skew or does not select them"},
		{"automountServiceAccountToken: false", "hostNetwork: true", "shares a namespace with its node"},
		{"automountServiceAccountToken: false", "volumes: [{name: v, hostPath: {path: /}}]", "directory of its node"},
		{"automountServiceAccountToken: false", "volumes: [{name: v, secret: {secretName: s}}]", "no Secret spillway/s"},
	} {
		if !strings.Contains(good, test.before) {
			t.Fatalf("%q is not in the text", test.before)
		}
		objects, err := Decode([]byte(strings.Replace(good, test.before, test.after, 1)))
		if err != nil {
			t.Fatal(err)
		}
		got := complaints(objects)
		if test.want == "" && len(got) > 0 || test.want != "" && !slices.ContainsFunc(got, func(c string) bool { return strings.Contains(c, test.want) }) {
			t.Errorf("%q instead of %q: complaints %q, want %q", test.after, test.before, got, test.want)
		}
	}
}
