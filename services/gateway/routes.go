package main

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"spillway.dev/platform/problem"
)

// route is one way to reach an RPC over HTTP, as the service's google.api.http annotation has it. grpc-gateway's own
// router cannot say which methods a path allows and passes over query parameters that it does not know; this one decides
// whether a request is let through to it.
type route struct {
	method   string
	segments []string // "*" stands for a path variable
	query    map[string]bool
}

// routes reads the annotations of a service. It fails for those it cannot express: patterns with wildcards that span
// segments, and custom verbs.
func routes(service protoreflect.ServiceDescriptor) ([]route, error) {
	var out []route
	for i := range service.Methods().Len() {
		rpc := service.Methods().Get(i)
		rule, ok := proto.GetExtension(rpc.Options(), annotations.E_Http).(*annotations.HttpRule)
		if !ok || rule == nil {
			continue
		}
		var rt route
		var template string
		switch p := rule.GetPattern().(type) {
		case *annotations.HttpRule_Get:
			rt.method, template = http.MethodGet, p.Get
		case *annotations.HttpRule_Post:
			rt.method, template = http.MethodPost, p.Post
		case *annotations.HttpRule_Put:
			rt.method, template = http.MethodPut, p.Put
		case *annotations.HttpRule_Patch:
			rt.method, template = http.MethodPatch, p.Patch
		case *annotations.HttpRule_Delete:
			rt.method, template = http.MethodDelete, p.Delete
		}
		if template == "" || strings.ContainsAny(template, "*:=") || len(rule.GetAdditionalBindings()) > 0 {
			return nil, fmt.Errorf("%s: its HTTP rule %q is of a kind that the gateway's routes do not know", rpc.FullName(), template)
		}
		rt.query = map[string]bool{}
		if rule.GetBody() == "" { // with a body "*", every field is in the body
			for j := range rpc.Input().Fields().Len() {
				f := rpc.Input().Fields().Get(j)
				rt.query[f.JSONName()], rt.query[f.TextName()] = true, true
			}
		}
		for s := range strings.SplitSeq(strings.TrimPrefix(template, "/"), "/") {
			if name, ok := strings.CutPrefix(s, "{"); ok {
				f := rpc.Input().Fields().ByTextName(strings.TrimSuffix(name, "}"))
				if f == nil {
					return nil, fmt.Errorf("%s: path variable %s names no field", rpc.FullName(), s)
				}
				delete(rt.query, f.JSONName())
				delete(rt.query, f.TextName())
				s = "*"
			}
			rt.segments = append(rt.segments, s)
		}
		out = append(out, rt)
	}
	return out, nil
}

func (rt route) matches(path string) bool {
	segments := strings.Split(strings.TrimPrefix(path, "/"), "/")
	return slices.EqualFunc(rt.segments, segments, func(pattern, s string) bool {
		return pattern == s || pattern == "*" && s != ""
	})
}

// check refuses what no route takes: an unknown path, a method that the path does not allow, a query parameter that the
// call does not have. allowed is the path's methods when it is the method that is refused.
func check(table []route, method string, u *url.URL) (allowed []string, refusal *problem.Problem) {
	var query map[string]bool
	for _, rt := range table {
		if !rt.matches(u.Path) {
			continue
		}
		allowed = append(allowed, rt.method)
		if rt.method == method {
			query = rt.query
		}
	}
	switch {
	case len(allowed) == 0:
		return nil, problem.New(codes.NotFound, reasonUnknownPath, "nothing is served under this path")
	case query == nil:
		slices.Sort(allowed)
		return allowed, problem.New(codes.Unimplemented, reasonMethodNotAllowed, "this path takes %s", strings.Join(allowed, ", "))
	}
	values, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return nil, problem.New(codes.InvalidArgument, reasonMalformedRequest, "the query string cannot be read")
	}
	for name := range values {
		if !query[name] {
			name = shorten(name)
			return nil, problem.New(codes.InvalidArgument, reasonMalformedRequest, "unknown query parameter %q", name).With("field", name)
		}
	}
	return nil, nil
}

// shorten keeps a name from outside to a length and an alphabet fit for a message.
func shorten(name string) string {
	name = strings.ToValidUTF8(name, "?")
	if r := []rune(name); len(r) > 64 {
		return string(r[:64])
	}
	return name
}
