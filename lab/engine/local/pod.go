package local

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"spillway.dev/lab/engine/local/logs"
	"spillway.dev/lab/engine/local/podenv"
	"spillway.dev/lab/engine/local/process"
	enginev1 "spillway.dev/proto/gen/spillway/engine/v1"
)

// host is every pod's address.
const host = "127.0.0.1"

// pod is one replica: a container that is started again in place until the pod
// is deleted.
type pod struct {
	engine         *Engine
	name, workload string
	template       *corev1.PodTemplateSpec
	hash           string
	image          string // the program
	dir            string
	created        time.Time
	ports          map[string]int // by the container port's name
	out            *logs.Writer

	bound chan struct{} // closed when the pod has a node
	stop  chan struct{} // closed when the pod is deleted
	done  chan struct{} // closed when nothing of it runs any more

	// guarded by Engine.mu
	status podStatus
}

// podStatus is what is known of a pod.
type podStatus struct {
	node         string           // the modelled node, empty while it is pending
	boundAt      time.Time        // when it got the node
	process      *process.Process // nil while no container runs
	firstStart   time.Time        // of its first container
	startedAt    time.Time        // of the container
	ready        bool
	readySince   time.Time
	readyChanged time.Time // when ready last became what it is
	restarts     int32
	reason       string    // why it waits or how it last ended
	retryAt      time.Time // when a container that ended is started again
	paused       bool      // the container is stopped by SIGSTOP
	terminating  bool
	deletedAt    time.Time
	drains       bool // was an endpoint when it was deleted
	hasty        bool // skips the preStop sleep
}

// setReady notes whether the pod takes work.
func (s *podStatus) setReady(ready bool, now time.Time) {
	if s.ready != ready {
		s.readyChanged = now
	}
	if ready {
		s.readySince = now
	}
	s.ready = ready
}

func (p *pod) container() corev1.Container { return p.template.Spec.Containers[0] }

// available is whether the pod has been ready for long enough to count on it.
func (s podStatus) available(now time.Time, minReady time.Duration) bool {
	return s.ready && !s.terminating && now.Sub(s.readySince) >= minReady
}

// address is where a port of the container is reached, by name or by number.
func (p *pod) address(at intstr.IntOrString) (string, error) {
	name := at.StrVal
	if at.Type == intstr.Int {
		i := slices.IndexFunc(p.container().Ports, func(c corev1.ContainerPort) bool { return c.ContainerPort == at.IntVal })
		if i < 0 {
			return "", fmt.Errorf("container %s has no port %d: list it under its ports", p.container().Name, at.IntVal)
		}
		name = p.container().Ports[i].Name
	}
	if port, ok := p.ports[name]; ok {
		return net.JoinHostPort(host, strconv.Itoa(port)), nil
	}
	return "", fmt.Errorf("container %s has no port named %q", p.container().Name, name)
}

// newPod prepares a pod of a Deployment's present template. Engine.mu is held.
func (e *Engine) newPod(d *deployment) (*pod, error) {
	p := &pod{
		engine:   e,
		workload: d.name,
		template: d.template,
		hash:     d.hash,
		image:    e.program(d.template),
		created:  time.Now(),
		ports:    map[string]int{},
		bound:    make(chan struct{}),
		stop:     make(chan struct{}),
		done:     make(chan struct{}),
	}
	for p.name == "" || d.pod(p.name) != nil {
		p.name = d.name + "-" + d.hash + "-" + suffix()
	}
	for _, c := range p.container().Ports {
		port, err := e.ports.Get()
		if err != nil {
			p.giveBack()
			return nil, err
		}
		p.ports[c.Name] = port
	}
	dir, err := e.dir.sub("pods", p.name)
	if err != nil {
		p.giveBack()
		return nil, err
	}
	p.dir = dir
	p.out = e.logs.Writer(p.workload, p.name)
	return p, nil
}

// giveBack returns what the pod holds.
func (p *pod) giveBack() {
	for _, port := range p.ports {
		p.engine.ports.Put(port)
	}
	if p.out != nil {
		p.out.Close()
	}
	if p.dir != "" {
		_ = os.RemoveAll(p.dir)
	}
}

// program is where an image's program is: the image's name without registry and
// tag, in bin/.
func (e *Engine) program(t *corev1.PodTemplateSpec) string {
	image, _, _ := strings.Cut(t.Spec.Containers[0].Image, "@")
	name := image[strings.LastIndexByte(image, '/')+1:]
	name, _, _ = strings.Cut(name, ":")
	return filepath.Join(e.options.Root, "bin", name)
}

// spec computes how to start the container now. Engine.mu is held.
func (p *pod) spec() (process.Spec, error) {
	offered := map[string]string{"POD_NAME": p.name, "POD_IP": host}
	for name, port := range p.ports {
		offered["PORT_"+variable(name)] = strconv.Itoa(port)
	}
	for _, v := range p.template.Spec.Volumes {
		dir, err := p.volume(v)
		if err != nil {
			return process.Spec{}, err
		}
		offered["VOLUME_"+variable(v.Name)] = dir
	}
	env, args, err := podenv.Container(p.container(), podenv.Source{
		Pod: podenv.Pod{
			Name: p.name, Namespace: Namespace, IP: host, Node: p.status.node,
			ServiceAccount: p.template.Spec.ServiceAccountName,
			Labels:         p.template.Labels, Annotations: p.template.Annotations,
		},
		ConfigMaps: p.engine.manifests.ConfigMaps,
		Offered:    offered,
		Links:      p.engine.links(&p.template.Spec),
	})
	if err != nil {
		return process.Spec{}, err
	}
	return process.Spec{
		Name: p.name, Path: p.image, Args: args, Dir: p.dir, Output: p.out,
		// What an image would bring, where no manifest says otherwise.
		Env: slices.Concat([]string{"PATH=/usr/local/bin:/usr/bin:/bin", "HOME=" + p.dir, "TMPDIR=" + p.dir}, p.engine.options.Env, env),
	}, nil
}

// volume makes the directory that is a volume of the pod.
func (p *pod) volume(v corev1.Volume) (string, error) {
	dir := p.engine.dir
	switch {
	case v.PersistentVolumeClaim != nil:
		return p.engine.kept("claims", v.PersistentVolumeClaim.ClaimName)
	case v.ConfigMap != nil:
		path, err := dir.sub("configmaps", v.ConfigMap.Name)
		if err != nil {
			return "", err
		}
		for key, text := range p.engine.manifests.ConfigMaps[v.ConfigMap.Name].Data {
			if err := writeFile(filepath.Join(path, key), []byte(text)); err != nil {
				return "", err
			}
		}
		return path, nil
	default:
		return dir.sub("pods", p.name, v.Name)
	}
}

// grace is how long the pod may take from its deletion to its end.
func (p *pod) grace() time.Duration {
	if s := p.template.Spec.TerminationGracePeriodSeconds; s != nil {
		return time.Duration(*s) * time.Second
	}
	return 30 * time.Second
}

// preStop is how long the container is left alone before it is told to end.
func (p *pod) preStop() time.Duration {
	if l := p.container().Lifecycle; l != nil && l.PreStop != nil && l.PreStop.Sleep != nil {
		return time.Duration(l.PreStop.Sleep.Seconds) * time.Second
	}
	return 0
}

// replica tells about the pod. Engine.mu is held.
func (p *pod) replica(now time.Time) *enginev1.Replica {
	s := p.status
	r := &enginev1.Replica{
		Name: p.name, Phase: enginev1.ReplicaPhase_REPLICA_PHASE_WAITING, Ready: s.ready && !s.terminating,
		Restarts: s.restarts, Reason: s.reason, TemplateHash: p.hash,
	}
	if wait := s.retryAt.Sub(now); s.process == nil && wait > 0 {
		r.Reason = fmt.Sprintf("CrashLoopBackOff, %s left (%s)", wait.Round(100*time.Millisecond), s.reason)
	}
	if s.process != nil {
		r.Phase, r.Pid, r.StartedAt = enginev1.ReplicaPhase_REPLICA_PHASE_RUNNING, int32(s.process.PID()), timestamp(s.startedAt)
	}
	switch {
	case s.terminating:
		r.Phase = enginev1.ReplicaPhase_REPLICA_PHASE_TERMINATING
	case s.node == "":
		r.Phase = enginev1.ReplicaPhase_REPLICA_PHASE_PENDING
	}
	if s.paused {
		r.Reason = "paused"
	}
	r.Node = s.node
	r.GrpcAddress, _ = p.address(intstr.FromString("grpc"))
	r.AdminAddress, _ = p.address(intstr.FromString("admin"))
	return r
}

// delete begins the end of the pod: from now on it is no endpoint. A hasty one
// skips the preStop sleep. Engine.mu is held.
func (p *pod) delete(hasty bool) {
	if p.status.terminating {
		return
	}
	p.status.terminating, p.status.deletedAt = true, time.Now()
	p.status.drains = p.status.ready
	p.status.hasty = hasty
	close(p.stop)
}

// suffix tells the pods of a template apart. Like Kubernetes' it has no vowels,
// so that it spells nothing.
func suffix() string {
	const letters = "bcdfghjklmnpqrstvwxz2456789"
	var s [5]byte
	for i := range s {
		s[i] = letters[rand.IntN(len(letters))]
	}
	return string(s[:])
}

// variable turns a port's or volume's name into part of a variable's.
func variable(name string) string {
	return strings.ToUpper(strings.NewReplacer("-", "_", ".", "_").Replace(name))
}

// victims orders the pods of a set by who goes first: who has no node, does not
// run, is not ready, became ready last, was restarted more often, is younger; as Kubernetes
// does. Engine.mu is held.
func victims(pods []*pod) []*pod {
	score := func(p *pod) []int64 {
		s := p.status
		return []int64{int64(bit(s.node != "")), int64(bit(s.process != nil)), int64(bit(s.ready)), -s.readySince.UnixNano(), -int64(s.restarts), -s.startedAt.UnixNano()}
	}
	return slices.SortedStableFunc(slices.Values(pods), func(a, b *pod) int { return slices.Compare(score(a), score(b)) })
}

// byHash groups pods that are not on their way out. Engine.mu is held.
func byHash(pods []*pod) map[string][]*pod {
	sets := map[string][]*pod{}
	for _, p := range pods {
		if !p.status.terminating {
			sets[p.hash] = append(sets[p.hash], p)
		}
	}
	return sets
}

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}
