package boot

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caarlos0/env/v11"

	"spillway.dev/platform/capacity"
	"spillway.dev/platform/identity"
)

// prefix is what every variable of ours begins with. Others, such as the INVENTORY_SERVICE_HOST that Kubernetes sets, are
// not looked at.
const prefix = "SPILLWAY_"

// settings are what every service has; docs in the reference of environment variables.
type settings struct {
	GRPCAddr string `env:"SPILLWAY_GRPC_ADDR" envDefault:":9000"`
	// AdminAddr serves /metrics, /healthz and /debug/pprof; never to be reachable from outside.
	AdminAddr string     `env:"SPILLWAY_ADMIN_ADDR" envDefault:":9090"`
	Instance  string     `env:"SPILLWAY_INSTANCE"` // the host name when empty: in Kubernetes the pod's
	Zone      string     `env:"SPILLWAY_ZONE"`
	LogLevel  slog.Level `env:"SPILLWAY_LOG_LEVEL" envDefault:"info"`

	// DrainDelay lets the removal of an endpoint spread before the server stops. 0: a preStop sleep does it instead.
	DrainDelay time.Duration `env:"SPILLWAY_DRAIN_DELAY" envDefault:"0s"`
	// DrainTimeout plus DrainDelay plus preStop must stay below the pod's terminationGracePeriodSeconds.
	DrainTimeout time.Duration `env:"SPILLWAY_DRAIN_TIMEOUT" envDefault:"10s"`
	// DrainLastScrape is how long the end waits for one more scrape, so that the last calls are counted too.
	DrainLastScrape time.Duration `env:"SPILLWAY_DRAIN_LAST_SCRAPE" envDefault:"0s"`
	StartTimeout    time.Duration `env:"SPILLWAY_START_TIMEOUT" envDefault:"10s"`

	// GRPCMaxConnectionAge has callers connect anew now and then, so that those who balance by connection find replicas
	// that were added since; 0: connections stay.
	GRPCMaxConnectionAge time.Duration `env:"SPILLWAY_GRPC_MAX_CONNECTION_AGE" envDefault:"0s"`

	// TLSDir has the replica's certificate, tls.crt, tls.key and ca.crt, for mutual TLS; empty: plaintext.
	TLSDir string `env:"SPILLWAY_TLS_DIR"`

	// RedisPoolSize is the most connections that a replica has to Redis; 0: the library's default, 10 for each CPU.
	RedisPoolSize int `env:"SPILLWAY_REDIS_POOL_SIZE" envDefault:"0"`
	// RedisMinIdle is how many of them are kept open though nobody uses them.
	RedisMinIdle int `env:"SPILLWAY_REDIS_MIN_IDLE" envDefault:"0"`
	// RateLimitRedisAddr is the Redis in which replicas keep rate limits together; empty: there is no such limit.
	RateLimitRedisAddr string `env:"SPILLWAY_RATELIMIT_REDIS_ADDR"`

	TraceRatio float64 `env:"SPILLWAY_TRACE_RATIO" envDefault:"0.01"`

	Kind         capacity.Kind         `env:"SPILLWAY_CAPACITY_KIND" envDefault:"model"`
	Slots        int                   `env:"SPILLWAY_CAPACITY_SLOTS" envDefault:"16"`
	ServiceTime  time.Duration         `env:"SPILLWAY_CAPACITY_SERVICE_TIME" envDefault:"50ms"`
	Distribution capacity.Distribution `env:"SPILLWAY_CAPACITY_DISTRIBUTION" envDefault:"exponential"`

	Start coldStart

	DeadlineDefault time.Duration `env:"SPILLWAY_DEADLINE_DEFAULT" envDefault:"5s"`
	DeadlineShave   time.Duration `env:"SPILLWAY_DEADLINE_SHAVE" envDefault:"5ms"`
	RetryAttempts   int           `env:"SPILLWAY_RETRY_ATTEMPTS" envDefault:"2"`

	// ControlTarget is the control plane, which the replica's knobs are watched from; empty: none are.
	ControlTarget string `env:"SPILLWAY_CONTROL_TARGET"`
}

// check gives the rules beyond each variable's type.
func (s *settings) check() []rule {
	return append(s.Start.check(), []rule{
		{"SPILLWAY_GRPC_ADDR", s.GRPCAddr, isAddress(s.GRPCAddr), "host:port or :port"},
		{"SPILLWAY_ADMIN_ADDR", s.AdminAddr, isAddress(s.AdminAddr), "host:port or :port"},
		{"SPILLWAY_DRAIN_DELAY", s.DrainDelay, s.DrainDelay >= 0, "0s or more"},
		{"SPILLWAY_DRAIN_LAST_SCRAPE", s.DrainLastScrape, s.DrainLastScrape >= 0, "0s or more"},
		{"SPILLWAY_DRAIN_TIMEOUT", s.DrainTimeout, s.DrainTimeout > 0, "more than 0s"},
		{"SPILLWAY_START_TIMEOUT", s.StartTimeout, s.StartTimeout > 0, "more than 0s"},
		{"SPILLWAY_TRACE_RATIO", s.TraceRatio, s.TraceRatio >= 0 && s.TraceRatio <= 1, "0 to 1"},
		{"SPILLWAY_GRPC_MAX_CONNECTION_AGE", s.GRPCMaxConnectionAge, s.GRPCMaxConnectionAge >= 0, "0s (connections stay) or more"},
		{"SPILLWAY_REDIS_POOL_SIZE", s.RedisPoolSize, s.RedisPoolSize >= 0, "0 (the library's default) or more"},
		{"SPILLWAY_REDIS_MIN_IDLE", s.RedisMinIdle, s.RedisMinIdle >= 0 && (s.RedisPoolSize == 0 || s.RedisMinIdle <= s.RedisPoolSize),
			"0 to SPILLWAY_REDIS_POOL_SIZE"},
		{"SPILLWAY_RATELIMIT_REDIS_ADDR", s.RateLimitRedisAddr, s.RateLimitRedisAddr == "" || CheckAddr("SPILLWAY_RATELIMIT_REDIS_ADDR", s.RateLimitRedisAddr) == nil,
			"host:port, or nothing"},
		{"SPILLWAY_CAPACITY_KIND", s.Kind, s.Kind == capacity.Model || s.Kind == capacity.CPU, "model or cpu"},
		{"SPILLWAY_CAPACITY_SLOTS", s.Slots, s.Slots >= 1, "1 or more"},
		{"SPILLWAY_CAPACITY_SERVICE_TIME", s.ServiceTime, s.ServiceTime >= 0, "0s (model off) or more"},
		{"SPILLWAY_CAPACITY_DISTRIBUTION", s.Distribution,
			s.Distribution == capacity.Exponential || s.Distribution == capacity.Constant, "exponential or constant"},
		{"SPILLWAY_DEADLINE_SHAVE", s.DeadlineShave, s.DeadlineShave >= 0, "0s or more"},
		{"SPILLWAY_DEADLINE_DEFAULT", s.DeadlineDefault, s.DeadlineDefault > max(s.DeadlineShave, 0),
			"more than 0s and more than SPILLWAY_DEADLINE_SHAVE"},
		{"SPILLWAY_RETRY_ATTEMPTS", s.RetryAttempts, s.RetryAttempts >= 1 && s.RetryAttempts <= 5, "1 (no retry) to 5"},
	}...)
}

// rule is a variable, the value in force, whether that is allowed, and what is.
type rule struct {
	name    string
	value   any
	kept    bool
	allowed string
}

func isAddress(s string) bool {
	_, port, err := net.SplitHostPort(s)
	if err != nil {
		return false
	}
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && strconv.FormatUint(n, 10) == port
}

// ConfigError says everything that is wrong with the environment, one line per problem.
type ConfigError struct{ Lines []string }

// Error joins the lines.
func (e *ConfigError) Error() string { return strings.Join(e.Lines, "\n") }

// parse fills the platform's settings and the service's Config. All problems are found at once: unknown names, values
// that do not parse, then (only if there are none of those) what the rules and the service's Validate say.
func parse(spec Spec, environ []string) (*settings, error) {
	if !identity.Valid(spec.Name) {
		return nil, fmt.Errorf("boot: service name %q is not allowed: give lower-case letters, digits and inner hyphens", spec.Name)
	}
	own := &settings{}
	targets := []any{own}
	if spec.Config != nil {
		if t := reflect.TypeOf(spec.Config); t.Kind() != reflect.Pointer || t.Elem().Kind() != reflect.Struct {
			return nil, fmt.Errorf("boot: Spec.Config of %s is a %s: give a pointer to a struct", spec.Name, t)
		}
		targets = append(targets, spec.Config)
	}
	values := ours(environ)
	lines, err := fill(targets, values)
	if err != nil {
		return nil, err
	}
	if len(lines) == 0 {
		for _, r := range own.check() {
			if !r.kept {
				lines = append(lines, invalid(r.name, cmp.Or(values[r.name], fmt.Sprint(r.value)), r.allowed))
			}
		}
		if v, ok := spec.Config.(interface{ Validate() error }); ok {
			if err := v.Validate(); err != nil {
				lines = append(lines, strings.Split(err.Error(), "\n")...)
			}
		}
	}
	if len(lines) > 0 {
		return nil, &ConfigError{Lines: lines}
	}
	if own.Instance == "" {
		if own.Instance, err = os.Hostname(); err != nil {
			return nil, fmt.Errorf("no host name to call this replica by (set SPILLWAY_INSTANCE): %w", err)
		}
	}
	return own, nil
}

// ours picks the variables that begin with the prefix; of a name given twice the last counts, as in os/exec.
func ours(environ []string) map[string]string {
	values := map[string]string{}
	for _, e := range environ {
		if name, value, ok := strings.Cut(e, "="); ok && strings.HasPrefix(name, prefix) {
			values[name] = value
		}
	}
	return values
}

// fill parses values into the targets and tells what is wrong with them, sorted by name.
func fill(targets []any, values map[string]string) ([]string, error) {
	var known, lines []string
	for _, target := range targets {
		fields, err := env.GetFieldParams(target)
		if err != nil {
			return nil, fmt.Errorf("boot: configuration struct %T: %w", target, err)
		}
		for _, f := range fields {
			if f.Key == "" || f.Ignored {
				continue
			}
			if !strings.HasPrefix(f.Key, prefix) {
				return nil, fmt.Errorf("boot: configuration struct %T: variable %s does not begin with %s", target, f.Key, prefix)
			}
			if slices.Contains(known, f.Key) {
				return nil, fmt.Errorf("boot: configuration struct %T: variable %s is taken already", target, f.Key)
			}
			known = append(known, f.Key)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if !slices.Contains(known, name) {
			lines = append(lines, unknown(name, values[name], known))
		}
	}
	for _, target := range targets {
		err := env.ParseWithOptions(target, env.Options{Environment: values})
		if err == nil {
			continue
		}
		wrong, err := blame(target, values)
		if err != nil {
			return nil, err
		}
		lines = append(lines, wrong...)
	}
	return lines, nil
}

// blame finds out which variables a target cannot be parsed from. The library names struct fields, not variables, so each
// variable is tried by itself.
func blame(target any, values map[string]string) ([]string, error) {
	fields, err := env.GetFieldParams(target)
	if err != nil {
		return nil, err
	}
	var lines []string
	for _, f := range fields {
		value, set := values[f.Key]
		if !set && f.Required {
			lines = append(lines, fmt.Sprintf("%s is not set: it is required", f.Key))
			continue
		}
		if f.NotEmpty && value == "" && !f.HasDefaultValue {
			lines = append(lines, fmt.Sprintf("%s is empty: it is required", f.Key))
			continue
		}
		fresh := reflect.New(reflect.TypeOf(target).Elem()).Interface()
		err := env.ParseWithOptions(fresh, env.Options{Environment: map[string]string{f.Key: value}})
		if aggregate, ok := errors.AsType[env.AggregateError](err); ok {
			for _, err := range aggregate.Errors {
				if p, ok := errors.AsType[env.ParseError](err); ok && (set || f.HasDefaultValue) && isField(target, p.Name, f.Key) {
					lines = append(lines, invalid(f.Key, value, allowed(p)))
				}
			}
		}
	}
	if len(lines) == 0 {
		return nil, fmt.Errorf("boot: configuration struct %T cannot be filled", target)
	}
	return lines, nil
}

// isField tells whether the struct, or one nested in it, has a field of that name filled from the variable.
func isField(target any, field, variable string) bool {
	var search func(t reflect.Type, prefix string) bool
	search = func(t reflect.Type, prefix string) bool {
		for f := range t.Fields() {
			name, _, _ := strings.Cut(f.Tag.Get("env"), ",")
			if f.Name == field && name != "" && prefix+name == variable {
				return true
			}
			inner := f.Type
			if inner.Kind() == reflect.Pointer {
				inner = inner.Elem()
			}
			if inner.Kind() == reflect.Struct && search(inner, prefix+f.Tag.Get("envPrefix")) {
				return true
			}
		}
		return false
	}
	return search(reflect.TypeOf(target).Elem(), "")
}

// invalid is the line for a value that is not allowed.
func invalid(name, value, allowed string) string {
	return fmt.Sprintf("%s=%q is not allowed: give %s", name, value, allowed)
}

// allowed says what a variable of the field's type takes.
func allowed(p env.ParseError) string {
	switch p.Type {
	case reflect.TypeFor[time.Duration]():
		return "a duration such as 250ms, 10s or 5m"
	case reflect.TypeFor[slog.Level]():
		return "debug, info, warn or error"
	}
	switch p.Type.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return "a whole number"
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return "a whole number, 0 or more"
	case reflect.Float32, reflect.Float64:
		return "a number"
	}
	return fmt.Sprintf("what it stands for (%v)", p.Err)
}

// unknown is the line for a variable that nobody reads, with the name that was probably meant.
func unknown(name, value string, known []string) string {
	line := fmt.Sprintf("%s=%q is not known", name, value)
	best, distance := "", max(3, len(name)/5)
	for _, k := range slices.Sorted(slices.Values(known)) {
		if d := edits(name, k); d < distance {
			best, distance = k, d
		}
	}
	if best != "" {
		return line + ": did you mean " + best + "?"
	}
	return line + ": known are " + strings.Join(slices.Sorted(slices.Values(known)), ", ")
}

// edits is the Levenshtein distance: how many letters must be put in, taken out or changed to get from a to b.
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
