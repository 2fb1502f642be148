// Package lifecycles lets pods live on a virtual node while virtualnode and API servers are killed (SIGKILL) at seeded
// moments, and then judges what both sides' API servers and events tell: no pod lost, none doubled, none orphaned, and
// nothing changed that belongs to others. The judgement knows labels and annotations, and no code of the product.
package lifecycles
