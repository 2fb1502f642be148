// Package pair is what an upper pod and the lower one that stands for it say of each other: the keys by which one finds
// the other, the marks and conditions that both sides read, the patches that change one of them, and what the answer to
// such a patch means. It asks and writes nothing itself.
package pair
