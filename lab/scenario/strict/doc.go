// Package strict reads YAML that people write into Go structs and forgives
// nothing: an unknown key, a value of another type, a key given twice or left
// empty is an error that names file, line and column, and what was probably
// meant. All mistakes of a file are told at once.
package strict
