package mesh

import (
	"fmt"
	"math"

	commonfaultv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/common/fault/v3"
	faultv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/fault/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/durationpb"
)

// faultFilters returns a filter for every fault that a caller's client is to inject; none for most callers, whose calls
// then pass no filter at all. The filter comes with google.golang.org/grpc/xds.
func faultFilters(faults []Fault, caller string) []*hcmv3.HttpFilter {
	var filters []*hcmv3.HttpFilter
	for _, fault := range faults {
		if fault.Caller != "" && fault.Caller != caller {
			continue
		}
		filter := &faultv3.HTTPFault{}
		if fault.Delay > 0 && fault.DelayShare > 0 {
			filter.Delay = &commonfaultv3.FaultDelay{
				FaultDelaySecifier: &commonfaultv3.FaultDelay_FixedDelay{FixedDelay: durationpb.New(fault.Delay)},
				Percentage:         fraction(fault.DelayShare),
			}
		}
		if fault.AbortShare > 0 {
			filter.Abort = &faultv3.FaultAbort{
				ErrorType:  &faultv3.FaultAbort_GrpcStatus{GrpcStatus: uint32(fault.AbortCode)},
				Percentage: fraction(fault.AbortShare),
			}
		}
		if filter.Delay == nil && filter.Abort == nil {
			continue
		}
		filters = append(filters, &hcmv3.HttpFilter{
			Name:       fmt.Sprintf("fault-%d", len(filters)+1), // names must differ within a chain
			ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: pack(filter)},
		})
	}
	return filters
}

// fraction is a share in the finest unit that there is.
func fraction(share float64) *typev3.FractionalPercent {
	return &typev3.FractionalPercent{
		Numerator:   uint32(math.Round(share * 1e6)),
		Denominator: typev3.FractionalPercent_MILLION,
	}
}
