# Appends a line to a file under its lock, from Ruby by fiddle.
require "fiddle/import"

# The functions of libtenure that this program uses.
module Native
  extend Fiddle::Importer
  dlload ENV.fetch("TENURE_LIBRARY", "libtenure.so.0.1")
  extern "int tenure_open(const char *, void *, void **, void **)"
  extern "int tenure_acquire(void *, long long, void **, void **)"
  extern "int tenure_release(void *, void **)"
  extern "unsigned long long tenure_fence(void *)"
  extern "void tenure_lock_free(void *)"
  extern "const char *tenure_error_message(void *)"
  extern "void tenure_error_free(void *)"
end

# A lock of a path.
class Tenure
  class Error < StandardError; end
  class Busy < Error; end

  BUSY = 1

  # Runs the block with the fence while it holds the lock of +target+; waits for +timeout+ seconds at most.
  def self.with(target, timeout: 10)
    lock = place { |lock, error| Native.tenure_open(target, nil, lock, error) }
    begin
      guard = place { |guard, error| Native.tenure_acquire(lock, (timeout * 1000).to_i, guard, error) }
      begin
        yield Native.tenure_fence(guard)
      ensure
        Native.tenure_release(guard, nil)
      end
    ensure
      Native.tenure_lock_free(lock)
    end
  end

  # Calls a function that writes an object and an error to places, and returns the object.
  private_class_method def self.place
    object, error = Array.new(2) { Fiddle::Pointer.malloc(Fiddle::SIZEOF_VOIDP, Fiddle::RUBY_FREE) }
    code = yield object, error
    return object.ptr if code.zero?

    message = Native.tenure_error_message(error.ptr).to_s.force_encoding("UTF-8")
    Native.tenure_error_free(error.ptr)
    raise (code == BUSY ? Busy : Error), message
  end
end

abort "usage: append FILE LINE" unless ARGV.length == 2
file, line = ARGV
begin
  Tenure.with(file) { File.write(file, "#{line}\n", mode: "a") }
rescue Tenure::Busy => e
  warn "append: #{e.message}"
  exit 75
end
