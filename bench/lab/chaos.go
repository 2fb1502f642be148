package lab

import "os"

// Chaos reports whether tests are to run in their long form, as `make chaos` does: more rounds, more pods, real times.
func Chaos() bool { return os.Getenv("TESSERA_CHAOS") != "" }
