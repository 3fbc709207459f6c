// Package audit checks from the stores themselves that the mesh kept its
// promises, whatever was killed: no seat is sold twice; every captured payment
// has exactly one order and one ticket, or one refund; no order is confirmed
// without a captured payment; no seat is held for ever.
//
// check.go is the pure judgement over a Snapshot, settle.go decides when the
// stores are quiet enough to be judged, stores.go reads them.
//
// One id goes through all stores: an order's id is the id of its hold, of its
// payment, of the bank's reference and of its ticket's record.
package audit
