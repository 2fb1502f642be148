// Package rows keeps the objects of one lower cluster as rows of numbers: 36 bytes each, whatever the object weighs. What a
// client has written is kept as it is, beside them. It knows no HTTP, no clock and no API kind.
package rows
