// Package test evaluates the Tiltfile without Tilt: it offers the part of Tilt's
// API that the Tiltfile uses, strictly, records what is asked for, and puts
// Kubernetes objects into resources by Tilt's rules. Manifests are rendered by
// kustomize's own API. What Tilt offers and the Tiltfile does not use is absent:
// using it fails until it is added here, by its documentation
// (https://docs.tilt.dev/api.html).
package test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"go.starlark.net/starlark"
	"go.starlark.net/starlarkstruct"
	"go.starlark.net/syntax"
)

// Tilt is one evaluation: what it is told, and what it was asked to do.
type Tilt struct {
	// Root is the directory of the Tiltfile, Context the current context of
	// Kubernetes, Arch what its nodes are, Subcommand up, ci or down.
	Root, Context, Arch, Subcommand string
	// Args stand behind `tilt up --`.
	Args []string
	// Manifests are kept between evaluations.
	Manifests *Manifests

	Allowed   []string               // contexts that were allowed by name
	Builds    map[string]*ImageBuild // by image
	Locals    map[string]*LocalResource
	Buttons   map[string]*Button
	Resources map[string]*Resource
	Objects   []*Object

	defined map[string]bool // argument → may be repeated
	options []*options
	loaded  map[string]starlark.StringDict
}

// ImageBuild is a docker_build or a custom_build.
type ImageBuild struct {
	Command, Context, Dockerfile string
	LiveUpdate                   []string
	Push                         bool
}

// LocalResource is a command on the host.
type LocalResource struct {
	Command  []string
	AutoInit bool
	Deps     []string
	Labels   []string
}

// Button is a button with the command that it starts.
type Button struct {
	Text, Kind, Resource string
	Inputs               []string
	Args                 []string
}

var dialect = &syntax.FileOptions{Set: true, TopLevelControl: true, GlobalReassign: true, Recursion: true}

// Evaluate runs the Tiltfile and assembles the resources.
func (t *Tilt) Evaluate() error {
	t.Builds, t.Locals, t.Buttons = map[string]*ImageBuild{}, map[string]*LocalResource{}, map[string]*Button{}
	t.Resources, t.defined, t.loaded = map[string]*Resource{}, map[string]bool{}, map[string]starlark.StringDict{}
	if _, err := t.execute(filepath.Join(t.Root, "Tiltfile")); err != nil {
		if failed, ok := errors.AsType[*starlark.EvalError](err); ok {
			return fmt.Errorf("%w\n%s", err, failed.Backtrace())
		}
		return err
	}
	for id, button := range t.Buttons {
		if button.Args == nil || button.Text == "" {
			return fmt.Errorf("button %s lacks its command or its text", id)
		}
	}
	return t.assemble()
}

func (t *Tilt) execute(path string) (starlark.StringDict, error) {
	if globals, done := t.loaded[path]; done {
		return globals, nil
	}
	thread := &starlark.Thread{
		Name: path,
		Load: func(_ *starlark.Thread, module string) (starlark.StringDict, error) {
			if strings.HasPrefix(module, "ext://") {
				return nil, fmt.Errorf("%s is fetched from the network; nothing else of the evaluation is", module)
			}
			return t.execute(filepath.Join(filepath.Dir(path), module))
		},
	}
	globals, err := starlark.ExecFileOptions(dialect, thread, path, nil, t.api())
	t.loaded[path] = globals
	return globals, err
}

type builtin func(name string, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error)

func function(name string, f builtin) *starlark.Builtin {
	return starlark.NewBuiltin(name, func(_ *starlark.Thread, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
		return f(b.Name(), args, kwargs)
	})
}

func module(name string, members map[string]builtin, values starlark.StringDict) starlark.Value {
	all := starlark.StringDict{}
	for member, f := range members {
		all[member] = function(name+"."+member, f)
	}
	for member, v := range values {
		all[member] = v
	}
	return starlarkstruct.FromStringDict(starlarkstruct.Default, all)
}

func (t *Tilt) api() starlark.StringDict {
	api := starlark.StringDict{
		"TRIGGER_MODE_AUTO":   starlark.String("auto"),
		"TRIGGER_MODE_MANUAL": starlark.String("manual"),
		"config": module("config", map[string]builtin{
			"define_string":      t.define(false),
			"define_string_list": t.define(true),
			"parse":              t.parse,
		}, starlark.StringDict{
			"main_dir":        starlark.String(t.Root),
			"tilt_subcommand": starlark.String(t.Subcommand),
		}),
		"os": module("os", nil, starlark.StringDict{"path": module("os.path", map[string]builtin{"exists": t.exists}, nil)}),
		"shlex": module("shlex", map[string]builtin{"quote": func(name string, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
			var s string
			err := starlark.UnpackArgs(name, args, kwargs, "s", &s)
			return starlark.String("'" + strings.ReplaceAll(s, "'", `'"'"'`) + "'"), err
		}}, nil),
		"v1alpha1": module("v1alpha1", map[string]builtin{
			"ui_button":            t.uiButton,
			"cmd":                  t.cmd,
			"ui_input_spec":        input,
			"ui_text_input_spec":   dictOf("default_val", "placeholder"),
			"ui_choice_input_spec": dictOf("choices"),
		}, nil),
	}
	for name, f := range map[string]builtin{
		"allow_k8s_contexts": t.allowContexts,
		"custom_build":       t.customBuild,
		"decode_yaml_stream": t.decodeYAMLStream,
		"docker_build":       t.dockerBuild,
		"fail":               fail,
		"k8s_context":        t.k8sContext,
		"k8s_resource":       t.k8sResource,
		"k8s_yaml":           t.k8sYAML,
		"kustomize":          t.kustomize,
		"local":              t.local,
		"local_resource":     t.localResource,
		"port_forward":       dictOf("local_port", "container_port", "name", "link_path", "host"),
		"run":                step("run", "cmd", "trigger", "echo_off"),
		"sync":               step("sync", "local_path", "remote_path"),
		// What changes how Tilt works and not what it does: only the names count.
		"ci_settings":      dictOf("k8s_grace_period", "timeout"),
		"update_settings":  dictOf("max_parallel_updates", "k8s_upsert_timeout_secs", "suppress_unused_image_warnings"),
		"version_settings": dictOf("check_updates", "constraint"),
		"watch_settings":   dictOf("ignore"),
	} {
		api[name] = function(name, f)
	}
	return api
}

// dictOf is a function that only checks the names of its arguments and returns them.
func dictOf(names ...string) builtin {
	return func(name string, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
		values := make([]starlark.Value, len(names))
		var pairs []any
		for i, n := range names {
			pairs = append(pairs, n+"?", &values[i])
		}
		if err := starlark.UnpackArgs(name, args, kwargs, pairs...); err != nil {
			return nil, err
		}
		d := starlark.NewDict(len(names))
		for i, v := range values {
			if v != nil {
				if err := d.SetKey(starlark.String(names[i]), v); err != nil {
					return nil, err
				}
			}
		}
		return d, nil
	}
}

// step is a step of a live update, kept as text.
func step(kind string, names ...string) builtin {
	return func(name string, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
		v, err := dictOf(names...)(name, args, kwargs)
		if err != nil {
			return nil, err
		}
		var words []string
		for _, item := range v.(*starlark.Dict).Items() {
			words = append(words, texts(item[1])...)
		}
		return starlark.String(kind + " " + strings.Join(words, " ")), nil
	}
}

func fail(_ string, args starlark.Tuple, _ []starlark.Tuple) (starlark.Value, error) {
	var words []string
	for _, a := range args {
		words = append(words, text(a))
	}
	return nil, errors.New(strings.Join(words, " "))
}

// text is a string without quotes, and anything else as Starlark prints it.
func text(v starlark.Value) string {
	if s, ok := starlark.AsString(v); ok {
		return s
	}
	if v == nil || v == starlark.None {
		return ""
	}
	return v.String()
}

// texts is a list of strings, or the one string.
func texts(v starlark.Value) (all []string) {
	list, ok := v.(starlark.Iterable)
	if !ok {
		if s := text(v); s != "" {
			all = append(all, s)
		}
		return all
	}
	for e := range starlark.Elements(list) {
		all = append(all, text(e))
	}
	return all
}

func (t *Tilt) define(list bool) builtin {
	return func(name string, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
		var argument, usage string
		var positional bool
		if err := starlark.UnpackArgs(name, args, kwargs, "name", &argument, "args?", &positional, "usage?", &usage); err != nil {
			return nil, err
		}
		if _, twice := t.defined[argument]; twice || positional || usage == "" {
			return nil, fmt.Errorf("%s: argument %q is defined twice, positional or without a usage", name, argument)
		}
		t.defined[argument] = list
		return starlark.None, nil
	}
}

func (t *Tilt) parse(name string, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	if err := starlark.UnpackArgs(name, args, kwargs); err != nil {
		return nil, err
	}
	given := starlark.NewDict(len(t.Args))
	for _, a := range t.Args {
		argument, value, ok := strings.Cut(strings.TrimPrefix(a, "--"), "=")
		list, known := t.defined[argument]
		if !ok || !known {
			return nil, fmt.Errorf("unknown argument %q", a)
		}
		before, there, err := given.Get(starlark.String(argument))
		if err != nil {
			return nil, err
		}
		v := starlark.Value(starlark.String(value))
		if list {
			if !there {
				before = starlark.NewList(nil)
			}
			v = starlark.NewList(append(elements(before), starlark.String(value)))
		}
		if err := given.SetKey(starlark.String(argument), v); err != nil {
			return nil, err
		}
	}
	return given, nil
}

func elements(v starlark.Value) (all []starlark.Value) {
	for e := range starlark.Elements(v.(starlark.Iterable)) {
		all = append(all, e)
	}
	return all
}

func (t *Tilt) exists(name string, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var path string
	if err := starlark.UnpackArgs(name, args, kwargs, "path", &path); err != nil {
		return nil, err
	}
	_, err := os.Stat(path)
	return starlark.Bool(err == nil), nil
}

func (t *Tilt) k8sContext(name string, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	return starlark.String(t.Context), starlark.UnpackArgs(name, args, kwargs)
}

func (t *Tilt) allowContexts(name string, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var contexts starlark.Value
	err := starlark.UnpackArgs(name, args, kwargs, "contexts", &contexts)
	t.Allowed = append(t.Allowed, texts(contexts)...)
	return starlark.None, err
}

// local runs the project's own scripts; of kubectl it knows the one answer that
// the Tiltfile asks for.
func (t *Tilt) local(name string, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var command starlark.Value
	var quiet, echoOff bool
	if err := starlark.UnpackArgs(name, args, kwargs, "command", &command, "quiet?", &quiet, "echo_off?", &echoOff); err != nil {
		return nil, err
	}
	words := texts(command)
	switch words[0] {
	case "kubectl":
		if want := []string{"kubectl", "--context", t.Context, "get", "nodes"}; strings.Join(words[:5], " ") != strings.Join(want, " ") {
			return nil, fmt.Errorf("kubectl is asked for %q", words)
		}
		return starlark.String(t.Arch), nil
	case "mkdir":
		for _, dir := range words[2:] {
			if err := os.MkdirAll(dir, 0o755); err != nil || !strings.HasPrefix(dir, t.Root+"/.tilt-build/") {
				return nil, fmt.Errorf("mkdir %s: %w", dir, err)
			}
		}
		return starlark.String(""), nil
	case "tilt/kustomization":
		cmd := exec.Command(words[0], words[1:]...)
		cmd.Dir = t.Root
		cmd.Env = append(os.Environ(), "PWD="+t.Root)
		out, err := cmd.Output()
		if failed, ok := errors.AsType[*exec.ExitError](err); ok {
			err = fmt.Errorf("%s: %s", words[0], failed.Stderr)
		}
		return starlark.String(out), err
	}
	return nil, fmt.Errorf("local: %q is nothing that an evaluation should run", words)
}

func (t *Tilt) localResource(name string, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var resource string
	var command, deps, ignore, labels, trigger starlark.Value
	r := &LocalResource{AutoInit: true}
	var parallel bool
	if err := starlark.UnpackArgs(name, args, kwargs, "name", &resource, "cmd?", &command, "deps?", &deps, "trigger_mode?", &trigger,
		"ignore?", &ignore, "auto_init?", &r.AutoInit, "allow_parallel?", &parallel, "labels?", &labels); err != nil {
		return nil, err
	}
	if t.Locals[resource] != nil {
		return nil, fmt.Errorf("local_resource %s is there twice", resource)
	}
	r.Command, r.Deps, r.Labels = texts(command), texts(deps), texts(labels)
	t.Locals[resource] = r
	return starlark.None, nil
}

func (t *Tilt) build(image string, b *ImageBuild) (starlark.Value, error) {
	if t.Builds[image] != nil {
		return nil, fmt.Errorf("image %s is built twice", image)
	}
	t.Builds[image] = b
	return starlark.None, nil
}

func (t *Tilt) dockerBuild(name string, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var ref, platform string
	var live starlark.Value
	b := &ImageBuild{Push: true}
	if err := starlark.UnpackArgs(name, args, kwargs, "ref", &ref, "context", &b.Context, "dockerfile?", &b.Dockerfile, "live_update?", &live, "platform?", &platform); err != nil {
		return nil, err
	}
	if _, err := os.Stat(b.Dockerfile); err != nil {
		return nil, err
	}
	b.LiveUpdate = texts(live)
	return t.build(ref, b)
}

func (t *Tilt) customBuild(name string, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var ref string
	var deps, ignore starlark.Value
	var noPush, noDocker bool
	b := &ImageBuild{}
	if err := starlark.UnpackArgs(name, args, kwargs, "ref", &ref, "command", &b.Command, "deps", &deps, "ignore?", &ignore,
		"skips_local_docker?", &noDocker, "disable_push?", &noPush); err != nil {
		return nil, err
	}
	b.Push = !noPush
	return t.build(ref, b)
}

func (t *Tilt) button(id string) *Button {
	if t.Buttons[id] == nil {
		t.Buttons[id] = &Button{}
	}
	return t.Buttons[id]
}

func (t *Tilt) uiButton(name string, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var id, label, icon string
	var location *starlark.Dict
	var list *starlark.List
	var annotations *starlark.Dict
	var confirm bool
	if err := starlark.UnpackArgs(name, args, kwargs, "name", &id, "annotations?", &annotations, "text?", &label, "icon_name?", &icon,
		"location?", &location, "inputs?", &list, "requires_confirmation?", &confirm); err != nil {
		return nil, err
	}
	b := t.button(id)
	if b.Text != "" {
		return nil, fmt.Errorf("button %s is there twice", id)
	}
	b.Text = label
	for _, item := range location.Items() {
		switch text(item[0]) {
		case "component_type":
			b.Kind = text(item[1])
		case "component_id":
			b.Resource = text(item[1])
		default:
			return nil, fmt.Errorf("location has no %s", item[0])
		}
	}
	if list != nil {
		for e := range starlark.Elements(list) {
			n, _, err := e.(*starlark.Dict).Get(starlark.String("name"))
			if err != nil {
				return nil, err
			}
			b.Inputs = append(b.Inputs, text(n))
		}
	}
	return starlark.None, nil
}

func input(name string, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	v, err := dictOf("name", "label", "text", "bool", "hidden", "choice")(name, args, kwargs)
	if err != nil {
		return nil, err
	}
	if n := v.(*starlark.Dict).Len(); n != 3 {
		return nil, fmt.Errorf("%s: an input has a name, a label and one kind, not %d values", name, n)
	}
	return v, nil
}

func (t *Tilt) cmd(name string, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var id, dir string
	var command, env *starlark.List
	var start, annotations *starlark.Dict
	if err := starlark.UnpackArgs(name, args, kwargs, "name", &id, "annotations?", &annotations, "args?", &command, "dir?", &dir,
		"env?", &env, "start_on?", &start); err != nil {
		return nil, err
	}
	for _, item := range start.Items() {
		if text(item[0]) != "ui_buttons" {
			return nil, fmt.Errorf("start_on has no %s here", item[0])
		}
		for _, id := range texts(item[1]) {
			t.button(id).Args = texts(command)
		}
	}
	return starlark.None, nil
}
