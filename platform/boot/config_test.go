package boot_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"spillway.dev/platform/boot"
)

// ownConfig is a service's configuration with one field of each kind.
type ownConfig struct {
	Addr    string        `env:"SPILLWAY_REDIS_ADDR" envDefault:"127.0.0.1:6379"`
	TTL     time.Duration `env:"SPILLWAY_INVENTORY_HOLD_TTL" envDefault:"2m"`
	Quota   int           `env:"SPILLWAY_BANK_QUOTA_PER_SECOND" envDefault:"50"`
	Enabled bool          `env:"SPILLWAY_BANK_ENABLED"`
	Dir     string        `env:"SPILLWAY_BANK_JOURNAL_DIR,required"`
	Inner   struct {
		Share float64 `env:"SHARE" envDefault:"0.5"`
	} `envPrefix:"SPILLWAY_BANK_"`
}

func (c *ownConfig) Validate() error {
	var errs []error
	if c.TTL <= 0 {
		errs = append(errs, errors.New("SPILLWAY_INVENTORY_HOLD_TTL must be more than 0s"))
	}
	if c.Quota < 1 {
		errs = append(errs, errors.New("SPILLWAY_BANK_QUOTA_PER_SECOND must be 1 or more"))
	}
	return errors.Join(errs...)
}

func TestWhatIsWrongWithTheEnvironment(t *testing.T) {
	const dir = "SPILLWAY_BANK_JOURNAL_DIR=/var/lib/bank"
	for name, test := range map[string]struct {
		environ []string
		want    []string // lines; "..." at the end stands for more
	}{
		"unknown, far from any": {
			[]string{dir, "SPILLWAY_FROBNICATE=1"},
			[]string{`SPILLWAY_FROBNICATE="1" is not known: known are SPILLWAY_ADMIN_ADDR, SPILLWAY_BANK_ENABLED, ...`},
		},
		"unknown, near one of the service's": {
			[]string{dir, "SPILLWAY_REDIS_ADR=redis:6379"},
			[]string{`SPILLWAY_REDIS_ADR="redis:6379" is not known: did you mean SPILLWAY_REDIS_ADDR?`},
		},
		"values that do not parse": {
			[]string{dir, "SPILLWAY_INVENTORY_HOLD_TTL=120", "SPILLWAY_BANK_QUOTA_PER_SECOND=many", "SPILLWAY_BANK_ENABLED=maybe",
				"SPILLWAY_BANK_SHARE=half", "SPILLWAY_LOG_LEVEL=loud", "SPILLWAY_CAPACITY_SLOTS=1.5"},
			[]string{
				`SPILLWAY_LOG_LEVEL="loud" is not allowed: give debug, info, warn or error`,
				`SPILLWAY_CAPACITY_SLOTS="1.5" is not allowed: give a whole number`,
				`SPILLWAY_INVENTORY_HOLD_TTL="120" is not allowed: give a duration such as 250ms, 10s or 5m`,
				`SPILLWAY_BANK_QUOTA_PER_SECOND="many" is not allowed: give a whole number`,
				`SPILLWAY_BANK_ENABLED="maybe" is not allowed: give true or false`,
				`SPILLWAY_BANK_SHARE="half" is not allowed: give a number`,
			},
		},
		"required and not there": {
			nil,
			[]string{`SPILLWAY_BANK_JOURNAL_DIR is not set: it is required`},
		},
		"platform's rules": {
			[]string{dir, "SPILLWAY_GRPC_ADDR=9000", "SPILLWAY_ADMIN_ADDR=:http", "SPILLWAY_DRAIN_DELAY=-1s", "SPILLWAY_DRAIN_TIMEOUT=0s",
				"SPILLWAY_START_TIMEOUT=-1s", "SPILLWAY_TRACE_RATIO=1.5", "SPILLWAY_CAPACITY_SLOTS=0",
				"SPILLWAY_CAPACITY_SERVICE_TIME=-5ms", "SPILLWAY_CAPACITY_DISTRIBUTION=normal", "SPILLWAY_DEADLINE_DEFAULT=0s",
				"SPILLWAY_DEADLINE_SHAVE=-1ms", "SPILLWAY_RETRY_ATTEMPTS=0"},
			[]string{
				`SPILLWAY_GRPC_ADDR="9000" is not allowed: give host:port or :port`,
				`SPILLWAY_ADMIN_ADDR=":http" is not allowed: give host:port or :port`,
				`SPILLWAY_DRAIN_DELAY="-1s" is not allowed: give 0s or more`,
				`SPILLWAY_DRAIN_TIMEOUT="0s" is not allowed: give more than 0s`,
				`SPILLWAY_START_TIMEOUT="-1s" is not allowed: give more than 0s`,
				`SPILLWAY_TRACE_RATIO="1.5" is not allowed: give 0 to 1`,
				`SPILLWAY_CAPACITY_SLOTS="0" is not allowed: give 1 or more`,
				`SPILLWAY_CAPACITY_SERVICE_TIME="-5ms" is not allowed: give 0s (model off) or more`,
				`SPILLWAY_CAPACITY_DISTRIBUTION="normal" is not allowed: give exponential or constant`,
				`SPILLWAY_DEADLINE_SHAVE="-1ms" is not allowed: give 0s or more`,
				`SPILLWAY_DEADLINE_DEFAULT="0s" is not allowed: give more than 0s and more than SPILLWAY_DEADLINE_SHAVE`,
				`SPILLWAY_RETRY_ATTEMPTS="0" is not allowed: give 1 (no retry) to 5`,
			},
		},
		"rules of the start, connections and pools": {
			[]string{dir, "SPILLWAY_START_DELAY=-1s", "SPILLWAY_START_CPU=1.5", "SPILLWAY_COLD_FOR=-1s", "SPILLWAY_COLD_FACTOR=0.5",
				"SPILLWAY_COLD_READY=later", "SPILLWAY_GRPC_MAX_CONNECTION_AGE=-1s", "SPILLWAY_REDIS_POOL_SIZE=-1",
				"SPILLWAY_REDIS_MIN_IDLE=3", "SPILLWAY_CAPACITY_KIND=gpu"},
			[]string{
				`SPILLWAY_START_DELAY="-1s" is not allowed: give 0s or more`,
				`SPILLWAY_START_CPU="1.5" is not allowed: give 0 to 1, a share of the slots`,
				`SPILLWAY_COLD_FOR="-1s" is not allowed: give 0s (never cold) or more`,
				`SPILLWAY_COLD_FACTOR="0.5" is not allowed: give 1 to 1000`,
				`SPILLWAY_COLD_READY="later" is not allowed: give at-once or after`,
				`SPILLWAY_GRPC_MAX_CONNECTION_AGE="-1s" is not allowed: give 0s (connections stay) or more`,
				`SPILLWAY_REDIS_POOL_SIZE="-1" is not allowed: give 0 (the library's default) or more`,
				`SPILLWAY_REDIS_MIN_IDLE="3" is not allowed: give 0 to SPILLWAY_REDIS_POOL_SIZE`,
				`SPILLWAY_CAPACITY_KIND="gpu" is not allowed: give model or cpu`,
			},
		},
		"not a number at all": {
			[]string{dir, "SPILLWAY_TRACE_RATIO=NaN"},
			[]string{`SPILLWAY_TRACE_RATIO="NaN" is not allowed: give 0 to 1`},
		},
		"the service's own rules": {
			[]string{dir, "SPILLWAY_INVENTORY_HOLD_TTL=0s", "SPILLWAY_BANK_QUOTA_PER_SECOND=-3"},
			[]string{
				"SPILLWAY_INVENTORY_HOLD_TTL must be more than 0s",
				"SPILLWAY_BANK_QUOTA_PER_SECOND must be 1 or more",
			},
		},
		"shave not below the deadline": {
			[]string{dir, "SPILLWAY_DEADLINE_SHAVE=7s"},
			[]string{`SPILLWAY_DEADLINE_DEFAULT="5s" is not allowed: give more than 0s and more than SPILLWAY_DEADLINE_SHAVE`},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var stderr strings.Builder
			spec := boot.Spec{Name: "bank", Config: &ownConfig{}, Build: func(context.Context, *boot.App) error {
				t.Error("built all the same")
				return nil
			}}
			err := boot.Run(t.Context(), spec, test.environ, &stderr)
			if _, ok := errors.AsType[*boot.ConfigError](err); !ok {
				t.Fatalf("error is %v, want a ConfigError", err)
			}
			got := strings.Split(strings.TrimSuffix(stderr.String(), "\n"), "\n")
			if len(got) != len(test.want) {
				t.Fatalf("%d lines, want %d:\n%s", len(got), len(test.want), &stderr)
			}
			for i, want := range test.want {
				want = "bank: " + want
				if start, open := strings.CutSuffix(want, "..."); got[i] != want && !(open && strings.HasPrefix(got[i], start)) {
					t.Errorf("line is\n%s\nwant\n%s", got[i], want)
				}
			}
		})
	}
}

func TestVariablesOfOthersAreNotLookedAt(t *testing.T) {
	own := &ownConfig{}
	built := errors.New("built")
	err := boot.Run(t.Context(), boot.Spec{Name: "bank", Config: own, Build: func(_ context.Context, app *boot.App) error {
		if app.Name() != "bank" || app.Instance() != "bank-7" {
			t.Errorf("name %q, instance %q", app.Name(), app.Instance())
		}
		return built
	}}, []string{
		"PATH=/bin", "INVENTORY_SERVICE_HOST=10.0.0.1", "SPILLWAYS=1", "no equals sign", "GRPC_XDS_BOOTSTRAP_CONFIG={}",
		"SPILLWAY_GRPC_ADDR=127.0.0.1:0", "SPILLWAY_ADMIN_ADDR=127.0.0.1:0", "SPILLWAY_INSTANCE=bank-7",
		"SPILLWAY_BANK_JOURNAL_DIR=/var/lib/bank", "SPILLWAY_BANK_SHARE=0.25", "SPILLWAY_INVENTORY_HOLD_TTL=",
	}, &strings.Builder{})
	if !errors.Is(err, built) {
		t.Fatal(err)
	}
	if own.Dir != "/var/lib/bank" || own.Inner.Share != 0.25 || own.TTL != 2*time.Minute || own.Quota != 50 {
		t.Errorf("configuration is %+v", own)
	}
}

func TestFaultsOfTheProgramAreNoConfigurationErrors(t *testing.T) {
	for name, spec := range map[string]boot.Spec{
		"service name": {Name: "Bank"},
		"no pointer":   {Name: "bank", Config: ownConfig{}},
		"foreign variable": {Name: "bank", Config: &struct {
			X string `env:"BANK_X"`
		}{}},
		"platform's": {Name: "bank", Config: &struct {
			X string `env:"SPILLWAY_GRPC_ADDR"`
		}{}},
	} {
		t.Run(name, func(t *testing.T) {
			err := boot.Run(t.Context(), spec, nil, &strings.Builder{})
			if _, wrong := errors.AsType[*boot.ConfigError](err); err == nil || wrong {
				t.Errorf("error is %v", err)
			}
		})
	}
}
