// Package orphans keeps book of the lower pods of one virtual node whose upper pod is gone without anybody having seen it
// go, and decides when they may be collected. It is told the time and what was found; it calls nobody.
package orphans
