/// The version of the suite; all three commands are of one.
package let version = "0.1.0"
