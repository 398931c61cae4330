// Holds messages against the verifier that flatc makes from the schema: verify FILE, which has each message after its
// length (four bytes, little-endian). Prints how many there were; ends with 1 at the first that is no valid FlatBuffer.

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <vector>

#include "ppx_generated.h"

int main(int count, char **words) {
    if (count != 2) return 2;
    std::ifstream file(words[1], std::ios::binary);
    const std::vector<char> bytes{std::istreambuf_iterator<char>(file), {}};
    std::size_t at = 0, messages = 0;
    while (at + 4 <= bytes.size()) {
        std::uint32_t size;
        std::memcpy(&size, bytes.data() + at, 4);
        at += 4;
        if (size > bytes.size() - at) return 2;
        const std::vector<std::uint8_t> message(bytes.begin() + static_cast<std::ptrdiff_t>(at),
                                                bytes.begin() + static_cast<std::ptrdiff_t>(at + size));
        at += size;
        flatbuffers::Verifier verifier(message.data(), message.size(), 64, 10000000);
        if (!verifier.VerifyBuffer<ppx::Message>(nullptr)) {
            std::printf("message %zu of %u bytes is no valid FlatBuffer\n", messages, size);
            return 1;
        }
        ++messages;
    }
    std::printf("%zu\n", messages);
    return 0;
}
