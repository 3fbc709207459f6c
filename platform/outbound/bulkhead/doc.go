// Package bulkhead bounds the calls to one callee that are under way at the same time, so that a callee which hangs
// cannot take all of this process's memory, connections and patience with it (M. Nygard, "Release It!", 2007). What is
// above the bound fails at once; nothing waits here.
package bulkhead
