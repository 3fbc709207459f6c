package podenv

import "strings"

// Expand replaces $(NAME) by what lookup has for it, by the rules of
// Kubernetes: an unknown name stays as it stands, $$ is a dollar sign (so
// $$(NAME) is not replaced), and a dollar sign before anything else is itself.
// What was put in is not expanded again.
// https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/#environment-variables
func Expand(text string, lookup func(name string) (string, bool)) string {
	var out strings.Builder
	for {
		before, after, found := strings.Cut(text, "$")
		out.WriteString(before)
		if !found {
			return out.String()
		}
		if rest, ok := strings.CutPrefix(after, "$"); ok {
			out.WriteByte('$')
			text = rest
			continue
		}
		name, rest, closed := strings.Cut(strings.TrimPrefix(after, "("), ")")
		if !strings.HasPrefix(after, "(") || !closed {
			out.WriteByte('$')
			text = after
			continue
		}
		if value, ok := lookup(name); ok {
			out.WriteString(value)
		} else {
			out.WriteString("$(" + name + ")")
		}
		text = rest
	}
}
