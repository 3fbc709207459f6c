package mesh

import (
	"maps"
	"slices"

	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"google.golang.org/protobuf/proto"
)

// view is what one caller is shown (faults are for some callers only): a cache per resource type in which every resource has a version of its own. (The
// library's snapshot cache versions a type as a whole and would send every service's endpoints when one has changed.)
type view struct {
	caller string
	caches map[resource.Type]*cache.LinearCache
	// unknown holds the names that the caller asked for and the mesh does not have.
	unknown map[string]bool
}

// newView returns an empty view. prefix must differ between processes that serve the same clients one after another:
// it tells a client's version from before a restart from one of ours.
func newView(caller, prefix string) *view {
	v := &view{caller: caller, caches: make(map[resource.Type]*cache.LinearCache, len(pushOrder)), unknown: make(map[string]bool)}
	for _, kind := range pushOrder {
		v.caches[kind] = cache.NewLinearCache(kind, cache.WithVersionPrefix(prefix))
	}
	return v
}

// show puts services into the view and takes those named by gone out of it; gone services that the caller may be
// watching become unknown ones. Resources that stay equal keep their version.
func (v *view) show(services []Service, gone []string) error {
	updates := make(map[resource.Type]map[string]types.Resource, len(pushOrder))
	for _, kind := range pushOrder {
		updates[kind] = make(map[string]types.Resource)
	}
	for _, service := range services {
		delete(v.unknown, service.Name)
		for kind, res := range resourcesOf(service, v.caller) {
			updates[kind][service.Name] = res
		}
	}
	for _, name := range gone {
		v.unknown[name] = true
		updates[resource.ListenerType][name] = unknownListener(name)
	}
	for _, kind := range pushOrder {
		shown := v.caches[kind].GetResources()
		maps.DeleteFunc(updates[kind], func(name string, res types.Resource) bool {
			old, ok := shown[name]
			return ok && proto.Equal(old, res)
		})
		if len(updates[kind]) == 0 {
			continue
		}
		if err := v.caches[kind].UpdateResources(updates[kind], nil); err != nil {
			return err
		}
	}
	return v.forget(gone)
}

// forget removes what gone services leave behind once no listener refers to it.
func (v *view) forget(gone []string) error {
	if len(gone) == 0 {
		return nil
	}
	for _, kind := range slices.Backward(pushOrder[:]) {
		if kind == resource.ListenerType {
			continue
		}
		if err := v.caches[kind].UpdateResources(nil, gone); err != nil {
			return err
		}
	}
	return nil
}

// ask makes the names that the mesh does not have fail fast for this caller, and returns those that are new to it.
func (v *view) ask(names map[string]struct{}, known map[string]Service) ([]string, error) {
	var fresh []string
	updates := make(map[string]types.Resource)
	for name := range names {
		if _, ok := known[name]; ok || v.unknown[name] {
			continue
		}
		v.unknown[name] = true
		fresh = append(fresh, name)
		updates[name] = unknownListener(name)
	}
	if len(fresh) == 0 {
		return nil, nil
	}
	return fresh, v.caches[resource.ListenerType].UpdateResources(updates, nil)
}
