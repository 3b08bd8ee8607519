// Test bench of the exported accelerator: plays tb.hex against the byte streams of `@TOP@` and compares the answers.
//
//   $ iverilog -g2005 -o tb.vvp tb.v @SOURCES@ && vvp tb.vvp
//   $ verilator --binary --timing -Wno-fatal -o tb --top-module tb tb.v @SOURCES@ && obj_dir/tb
//
// The last line it prints begins with PASS or FAIL. +vcd writes tb.vcd. Works on a mapped netlist too.
// tb.hex: one step per line, operation in bits 11..8, byte in bits 7..0. Operations: 0 send the byte, 1 receive a byte
// that must equal it, 2 receive any byte, 3 wait until `busy` is 0.
// @PROGRAM@
`timescale 1ns/1ps
module tb;
  localparam STEPS = @STEPS@;
  localparam LIMIT = @LIMIT@;  // cycles to wait for anything

  reg clk, fast_clk, rst, i_valid, o_ready;
  reg [7:0] i_payload;
  wire i_ready, o_valid, busy;
  wire [7:0] o_payload;
  wire [3:0] error;
  reg [11:0] script [0:STEPS-1];
  integer step, waited, cycles, compared;

  @TOP@ dut (
    .clk(clk), @FAST_CLK@.rst(rst), .line_error(1'b0), .busy(busy), .error(error),
    .i__payload(i_payload), .i__valid(i_valid), .i__ready(i_ready),
    .o__payload(o_payload), .o__valid(o_valid), .o__ready(o_ready)
  );

  // Cycles of 10 ns begin at the falling edge; outputs are sampled 1 ns before the rising edge. `fast_clk`, where the
  // array has a clock of its own, rises at both edges.
  always begin
    clk = 1'b0;
    fast_clk = 1'b1;
    #2.5 fast_clk = 1'b0;
    #2.5 clk = 1'b1;
    fast_clk = 1'b1;
    #2.5 fast_clk = 1'b0;
    #2.5 cycles = cycles + 1;
  end

  task fail;
    begin
      $display("FAIL: step %0d of %0d after %0d cycles, %0d bytes compared", step, STEPS, cycles, compared);
      $finish;
    end
  endtask

  initial begin
    if ($test$plusargs("vcd")) begin
      $dumpfile("tb.vcd");
      $dumpvars(0, tb);
    end
    $readmemh("tb.hex", script);
    cycles = 0;
    compared = 0;
    rst = 1'b1;
    i_valid = 1'b0;
    i_payload = 8'h00;
    o_ready = 1'b0;
    #39 rst = 1'b0;
    #10;
    for (step = 0; step < STEPS; step = step + 1) begin
      // Here it is 9 ns after a falling edge: inputs change behind the rising edge, well before the next.
      i_valid = script[step][11:8] == 4'd0;
      i_payload = script[step][7:0];
      o_ready = script[step][11:8] == 4'd1 || script[step][11:8] == 4'd2;
      waited = 0;
      #5;
      while (!(i_valid ? i_ready === 1'b1 : o_ready ? o_valid === 1'b1 : busy === 1'b0) && waited < LIMIT) begin
        waited = waited + 1;
        #10;
      end
      if (waited == LIMIT) begin
        $display("nothing happens: busy %b, error %h", busy, error);
        fail;
      end
      if (script[step][11:8] == 4'd1) begin
        compared = compared + 1;
        if (o_payload !== script[step][7:0]) begin
          $display("received %h, must be %h", o_payload, script[step][7:0]);
          fail;
        end
      end
      #5;
    end
    $display("PASS: %0d steps in %0d cycles, %0d bytes compared", STEPS, cycles, compared);
    $finish;
  end
endmodule
