package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	autoscalingv2 "k8s.io/api/autoscaling/v2"

	"spillway.dev/lab/metrics/remote"
	"spillway.dev/lab/why"
	autoscalerv1 "spillway.dev/proto/gen/spillway/autoscaler/v1"
	enginev1 "spillway.dev/proto/gen/spillway/engine/v1"
)

func (a *app) explainCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "explain SERVICE",
		Short: "Tell why a service wants the replicas that it wants now, term by term",
		Long: `Tell why a service wants the replicas that it wants now: what people ask of the
edge by route, what comes of it at the service by visits, what one replica can
answer and how busy it is meant to be, what cannot scale, what the service shows
of itself, and what its autoscaler makes of all that.

The figures are of the metrics store's rules (docs/kubernetes.md, scaling-coordinated)
and are told whichever way the mesh is scaled. With --engine kube they are of the
cluster's Prometheus.`,
		Example: "  spillway explain inventory\n  spillway explain order --json",
		Args:    arguments(1, "SERVICE"),
	}
	asJSON := addJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return a.withMesh(func(conn *grpc.ClientConn) error {
			info, err := enginev1.NewEngineServiceClient(conn).GetInfo(cmd.Context(), &enginev1.GetInfoRequest{})
			if err != nil {
				return fmt.Errorf("ask where the metrics store is: %w", err)
			}
			if info.GetPrometheusUrl() == "" {
				return errors.New("the mesh has no metrics store, from which this is told; in a cluster apply k8s/observability/lite, or the overlay ci, which brings it")
			}
			store, err := remote.New(info.GetPrometheusUrl())
			if err != nil {
				return err
			}
			defer store.Close()
			answer, err := why.Ask(cmd.Context(), store, args[0], time.Now())
			if err != nil {
				return fmt.Errorf("explain %s: %w", args[0], err)
			}
			if *asJSON {
				return a.printJSON(answer)
			}
			list, err := autoscalerv1.NewAutoscalerServiceClient(conn).ListObjects(cmd.Context(), &autoscalerv1.ListObjectsRequest{Kind: "HorizontalPodAutoscaler"})
			if err != nil {
				return fmt.Errorf("ask for the autoscaler of %s: %w", args[0], err)
			}
			hpa, err := autoscalerOf(args[0], list.GetObjects())
			if err != nil {
				return err
			}
			return answer.Text(a.out, hpa)
		})
	}
	return cmd
}

// autoscalerOf finds the one that scales a Deployment among autoscalers as JSON;
// nil when there is none.
func autoscalerOf(deployment string, objects []string) (*autoscalingv2.HorizontalPodAutoscaler, error) {
	for _, o := range objects {
		var hpa autoscalingv2.HorizontalPodAutoscaler
		if err := json.Unmarshal([]byte(o), &hpa); err != nil {
			return nil, fmt.Errorf("read an autoscaler: %w", err)
		}
		if hpa.Spec.ScaleTargetRef.Name == deployment {
			return &hpa, nil
		}
	}
	return nil, nil
}
