// Package certificate makes and renews the serving certificate of admission, and the authority that has signed it. Both are in one
// Secret, from which all replicas serve; the authority's certificate is kept in the webhook configuration, by which API servers verify.
// What is due is decided by a pure function, renew; the rest reads and writes, with the resource version as the only lock.
package certificate
