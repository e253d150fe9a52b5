# Appends a line to each of several files while it holds the locks of all of them, from Ruby by fiddle.
require "fiddle/import"

# The functions of libtenure that this program uses.
module Native
  extend Fiddle::Importer
  dlload ENV.fetch("TENURE_LIBRARY", "libtenure.so.0.1")
  extern "int tenure_open(const char *, void *, void **, void **)"
  extern "int tenure_acquire_all(void *, size_t, long long, void *, void **)"
  extern "int tenure_release(void *, void **)"
  extern "unsigned long long tenure_fence(void *)"
  extern "void tenure_lock_free(void *)"
  extern "const char *tenure_error_message(void *)"
  extern "void tenure_error_free(void *)"
end

# Locks of paths.
class Tenure
  class Error < StandardError; end
  class Busy < Error; end

  BUSY = 1

  # Runs the block while it holds the locks of all +targets+, with their fences; waits for +timeout+ seconds at most.
  def self.with(*targets, timeout: 10)
    locks = []
    guards = []
    targets.each { |target| locks += places(1) { |lock, error| Native.tenure_open(target, nil, lock, error) } }
    list = locks.map(&:to_i).pack("J*")
    guards = places(locks.length) do |place, error|
      Native.tenure_acquire_all(list, locks.length, (timeout * 1000).to_i, place, error)
    end
    yield(*guards.map { |guard| Native.tenure_fence(guard) })
  ensure
    guards.each { |guard| Native.tenure_release(guard, nil) }
    locks.each { |lock| Native.tenure_lock_free(lock) }
  end

  # Calls a function that writes objects and an error to places, and returns the objects.
  private_class_method def self.places(count)
    objects, error = [count, 1].map { |size| Fiddle::Pointer.malloc(size * Fiddle::SIZEOF_VOIDP, Fiddle::RUBY_FREE) }
    code = yield objects, error
    return Array.new(count) { |at| (objects + at * Fiddle::SIZEOF_VOIDP).ptr } if code.zero?

    message = Native.tenure_error_message(error.ptr).to_s.force_encoding("UTF-8")
    Native.tenure_error_free(error.ptr)
    raise (code == BUSY ? Busy : Error), message
  end
end

abort "usage: append LINE FILE.." unless ARGV.length >= 2
line, *files = ARGV
begin
  Tenure.with(*files) { files.each { |file| File.write(file, "#{line}\n", mode: "a") } }
rescue Tenure::Busy => e
  warn "append: #{e.message}"
  exit 75
end
