// Package coordination turns the declared call graph of the mesh into Prometheus
// rules that tell how many replicas every service needs now, from what people
// ask of the edge: offered calls by route, times visits, over what one replica
// can answer. By the forced flow and utilization laws of operational analysis
// (Denning and Buzen, "The Operational Analysis of Queueing Network Models", ACM
// Computing Surveys 10(3), 1978) no tier has to wait until pressure has come
// down to it hop by hop. The idea of scaling all tiers of a chain at once from
// the load at its head is Chamulteon's (Bauer et al., ICDCS 2019).
//
// PromQL cannot recurse, so the rules are written out service by service,
// callers before callees.
package coordination
