// Package ask is the client of the HTTP APIs that Tessera's daemons serve: how one is reached (URL, CA, token, time-out) and
// what it says when it refuses, once for all who ask. Extender has the questions to the extender, in the types of package
// wire.
package ask
