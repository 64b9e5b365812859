// An element of Atom.
#ifndef ATOM_CPP_ELEMENT_H
#define ATOM_CPP_ELEMENT_H

#include <atom/redis.h>
#include <string>

namespace atom {

class Element {
public:
    // Connects to the nucleus; std::runtime_error where there is none.
    explicit Element(const std::string &name);
    ~Element();
    Element(const Element &) = delete;
    Element &operator=(const Element &) = delete;

    // Writes an entry of one field, and gives its id.
    std::string entryWrite(const std::string &stream, const std::string &key, const std::string &value);

private:
    std::string name;
    redisContext *context;
};

} // namespace atom

#endif
