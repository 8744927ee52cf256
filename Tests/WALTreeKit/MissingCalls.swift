// Calls of libc that Swift's Glibc module does not have: xattr(7) and fallocate(2).

@_silgen_name("lsetxattr")
func lsetxattr(
    _ path: UnsafePointer<CChar>, _ name: UnsafePointer<CChar>, _ value: UnsafeRawPointer?, _ size: Int, _ flags: CInt
)
    -> CInt

@_silgen_name("lgetxattr")
func lgetxattr(
    _ path: UnsafePointer<CChar>, _ name: UnsafePointer<CChar>, _ value: UnsafeMutableRawPointer?, _ size: Int
) -> Int

@_silgen_name("llistxattr")
func llistxattr(_ path: UnsafePointer<CChar>, _ list: UnsafeMutablePointer<CChar>?, _ size: Int) -> Int

@_silgen_name("lremovexattr")
func lremovexattr(_ path: UnsafePointer<CChar>, _ name: UnsafePointer<CChar>) -> CInt

@_silgen_name("fallocate")
func fallocate(_ descriptor: CInt, _ mode: CInt, _ offset: Int, _ length: Int) -> CInt
