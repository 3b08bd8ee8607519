// Runs a Verilated engine together with its main memory; sim/verilator_sim.py calls it through ctypes.
//
// Compiled once per engine with the macros MEM_WIDTH, MEM_DEPTH, MEM_LAG, MEM_PORTS, GRANULE, SUMS, ACC_WIDTH, PUMP
// and, for waves, DIPOLE_WAVES.
// Verilator writes the double underscore of a port name as ___05F, and __SYM__ before C names.
// A cycle: outputs are settled and read; rising edge; memory answers, other inputs change; falling edge settles again.
// With PUMP = 2 the clock of the array rises at both of these edges, and inputs settle before the second.

#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <type_traits>
#include <vector>

#include "Vdut.h"
#include "verilated.h"
#ifdef DIPOLE_WAVES
#include "verilated_vcd_c.h"
#endif

namespace {

constexpr unsigned WORDS = MEM_WIDTH / 32;
constexpr unsigned GRANULES = MEM_WIDTH / GRANULE;
constexpr unsigned WE_WORDS = (GRANULES + 31) / 32;
constexpr unsigned STEP = GRANULE < 32 ? GRANULE : 32;  // granules are powers of two
constexpr uint64_t JUNK = 0x9e3779b97f4a7c15u;

// Verilator's ports are integers up to 64 bits and VlWide above; these see all of them as 32-bit words.
template <class T> std::enable_if_t<std::is_integral_v<T>> get(const T& port, uint32_t* words) {
    words[0] = static_cast<uint32_t>(port);
    if constexpr (sizeof(T) > 4) words[1] = static_cast<uint32_t>(port >> 32);
}
template <class T> std::enable_if_t<!std::is_integral_v<T>> get(const T& port, uint32_t* words) {
    std::memcpy(words, port.data(), sizeof(T));
}
template <class T> std::enable_if_t<std::is_integral_v<T>> put(T& port, const uint32_t* words) {
    uint64_t value = words[0];
    if constexpr (sizeof(T) > 4) value |= static_cast<uint64_t>(words[1]) << 32;
    port = static_cast<T>(value);
}
template <class T> std::enable_if_t<!std::is_integral_v<T>> put(T& port, const uint32_t* words) {
    std::memcpy(port.data(), words, sizeof(T));
}

// Where an assertion of the RTL has failed, empty: none did. Verilator reports it without saying for which model.
std::string failure;

struct Sim {
    VerilatedContext context;
    std::unique_ptr<Vdut> dut;
    std::vector<uint32_t> memory = std::vector<uint32_t>(static_cast<size_t>(MEM_DEPTH) * WORDS);
    std::vector<uint32_t> drained_words;
    std::vector<int64_t> drained_cycles;
    uint64_t junk;
    // What becomes of rdata in the next cycles: a word, or nothing, per register on the ways to memory and back.
    struct { bool valid; uint32_t words[WORDS]; } coming[MEM_LAG + 1] = {};
    int64_t cycle = 0;  // of the current run; 0 is the cycle with start = 1
    bool trace = false;
#ifdef DIPOLE_WAVES
    std::unique_ptr<VerilatedVcdC> waves;
#endif

    void junk_words(uint32_t* words) {
        for (unsigned i = 0; i < WORDS; ++i) {
            junk = junk * 6364136223846793005u + 1442695040888963407u;
            words[i] = static_cast<uint32_t>(junk >> 32);
        }
    }

    void write(uint64_t addr, const uint32_t* we, const uint32_t* data) {
        uint32_t* word = &memory[addr * WORDS];
        for (unsigned g = 0; g < GRANULES; ++g) {
            if (!(we[g / 32] >> g % 32 & 1)) continue;
            for (unsigned bit = g * GRANULE; bit < (g + 1) * GRANULE; bit += STEP) {
                const uint32_t mask = (~0u >> (32 - STEP)) << bit % 32;
                word[bit / 32] = (word[bit / 32] & ~mask) | (data[bit / 32] & mask);
            }
        }
    }

    void record() {
        constexpr unsigned bits = SUMS * ACC_WIDTH;
        uint32_t row[bits / 32 + 3] = {};
        get(dut->drain_data, row);
        for (unsigned i = 0; i < SUMS; ++i) {
            const unsigned low = i * ACC_WIDTH;
            const uint64_t pair = row[low / 32] | static_cast<uint64_t>(row[low / 32 + 1]) << 32;
            drained_words.push_back(static_cast<uint32_t>(pair >> low % 32 & ((1ull << ACC_WIDTH) - 1)));
        }
        drained_cycles.push_back(cycle);
    }

    void dump() {
#ifdef DIPOLE_WAVES
        if (waves) waves->dump(context.time());
#endif
        context.timeInc(5);
    }

    void edge(bool rising) {
#if PUMP > 1
        dut->fast_clk = 0;
        dut->eval();
        dut->fast_clk = 1;
#endif
        dut->clk = rising;
        dut->eval();
        dump();
    }

    // Ends the current cycle and begins the next with start and abort as given.
    void step(bool start = false, bool abort = false) {
        if (trace && dut->drain_valid) record();
        const bool en = dut->mem___05Fen;
        const uint64_t addr = dut->mem___05Faddr;
        uint32_t we[WE_WORDS + 1], data[WORDS + 1];
        get(dut->mem___05Fwe, we);
        get(dut->mem___05Fwdata, data);
        bool wrote = false;
        for (unsigned i = 0; i < WE_WORDS; ++i) wrote |= we[i] != 0;
#if MEM_PORTS > 1
        const uint64_t waddr = dut->mem___05Fwaddr;
#else
        const uint64_t waddr = addr;
        wrote &= en;
#endif
        edge(true);
        if (wrote) write(waddr, we, data);
        coming[MEM_LAG].valid = en;
        // Behind a write, or of the word that is written, a read gives junk.
        if (en && wrote && addr == waddr) junk_words(coming[MEM_LAG].words);
        else if (en) std::memcpy(coming[MEM_LAG].words, &memory[addr * WORDS], sizeof(uint32_t) * WORDS);
        if (coming[0].valid) put(dut->mem___05Frdata, coming[0].words);
        std::memmove(coming, coming + 1, sizeof(coming[0]) * MEM_LAG);
        dut->start = start;
        dut->__SYM__abort = abort;
        edge(false);
        ++cycle;
    }

    void reset() {
        context.assertOn(false);  // before the reset the state is undefined
        dut->rst = 1;
        dut->clk = 0;
        dut->eval();
        step();
        dut->rst = 0;
        dut->eval();
        context.assertOn(true);
        failure.clear();  // that of the run before
    }
};

}  // namespace

void vl_stop(const char* file, int line, const char*) VL_MT_UNSAFE {
    if (failure.empty()) failure = std::string(file) + ":" + std::to_string(line);
}

extern "C" {

void* dipole_open(uint32_t seed, const char* waves) {
    auto* sim = new Sim;
    sim->junk = seed * JUNK;
    sim->context.randReset(2);
    sim->context.randSeed(static_cast<int>(seed | 1));
#ifdef DIPOLE_WAVES
    sim->context.traceEverOn(true);
#endif
    sim->dut = std::make_unique<Vdut>(&sim->context);
#ifdef DIPOLE_WAVES
    if (waves && *waves) {
        sim->waves = std::make_unique<VerilatedVcdC>();
        sim->dut->trace(sim->waves.get(), 99);
        sim->waves->open(waves);
    }
#else
    static_cast<void>(waves);
#endif
    sim->dut->start = 0;
    sim->dut->__SYM__abort = 0;
    sim->dut->entry = 0;
    uint32_t words[WORDS];
    sim->junk_words(words);
    put(sim->dut->mem___05Frdata, words);
    sim->reset();
    return sim;
}

void dipole_close(void* handle) {
    auto* sim = static_cast<Sim*>(handle);
#ifdef DIPOLE_WAVES
    if (sim->waves) sim->waves->close();
#endif
    sim->dut->final();
    delete sim;
}

uint32_t* dipole_memory(void* handle) { return static_cast<Sim*>(handle)->memory.data(); }

void dipole_reset(void* handle) { static_cast<Sim*>(handle)->reset(); }

// Begins a run: afterwards the first cycle behind the start pulse has settled.
void dipole_start(void* handle, uint32_t entry, int trace, int64_t abort_at) {
    auto* sim = static_cast<Sim*>(handle);
    sim->drained_words.clear();
    sim->drained_cycles.clear();
    sim->trace = false;
    sim->dut->entry = entry;
    sim->step(true);
    sim->trace = trace;
    sim->cycle = 0;
    sim->step(false, abort_at == 1);
}

// Advances until the engine is idle or cycle `limit` is reached; abort is 1 in cycle `abort_at`. Returns the cycle.
int64_t dipole_run(void* handle, int64_t limit, int64_t abort_at) {
    auto* sim = static_cast<Sim*>(handle);
    while (sim->dut->busy && sim->cycle < limit && failure.empty()) sim->step(false, sim->cycle + 1 == abort_at);
    if (!sim->dut->busy && sim->trace && sim->dut->drain_valid) sim->record();
    return sim->cycle;
}

const char* dipole_failure(void*) { return failure.c_str(); }
uint32_t dipole_busy(void* handle) { return static_cast<Sim*>(handle)->dut->busy; }
uint32_t dipole_error(void* handle) { return static_cast<Sim*>(handle)->dut->error; }
uint32_t dipole_cycles(void* handle) { return static_cast<Sim*>(handle)->dut->cycles; }
uint64_t dipole_drained(void* handle) { return static_cast<Sim*>(handle)->drained_cycles.size(); }
const uint32_t* dipole_drained_words(void* handle) { return static_cast<Sim*>(handle)->drained_words.data(); }
const int64_t* dipole_drained_cycles(void* handle) { return static_cast<Sim*>(handle)->drained_cycles.data(); }
}
