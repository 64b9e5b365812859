#include "element.h"

#include <atom/element.h>
#include <stdexcept>

namespace atom {

Element::Element(const std::string &name) : name(name), context(redis_context_init())
{
    if (context == nullptr)
        throw std::runtime_error("no nucleus");
}

Element::~Element()
{
    redis_context_cleanup(context);
}

std::string Element::entryWrite(const std::string &stream, const std::string &key, const std::string &value)
{
    char id[STREAM_ID_BUFFLEN];
    if (!element_write(context, name.c_str(), stream.c_str(), key.c_str(), value.c_str(), id))
        throw std::runtime_error("the entry was not written");
    return id;
}

} // namespace atom
