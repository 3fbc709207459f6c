// Package knobs is settings that change while a replica runs.
//
// A service declares its knobs while it is built: a name, the default that its environment gave, bounds, and one line
// of help. Reading one is an atomic load. Watch keeps a Set in step with the control plane: every snapshot that it
// sends holds all values that are set, and a knob that is not in it has its default. When the control plane goes away
// every knob keeps the value it has.
package knobs
